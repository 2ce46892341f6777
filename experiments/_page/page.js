// Sends the image that is dropped, pasted or chosen, and shows what the server answers.
"use strict";

const form = document.getElementById("ask");
const input = document.getElementById("file");
const drop = document.getElementById("drop");
const shown = document.getElementById("shown");
const found = document.getElementById("found");
let image = null; // the one that was searched for last, to compare it otherwise
let asked = 0;

function mode() {
  return form.elements.by.value;
}

function show(text) {
  const line = document.createElement("p");
  line.className = "message";
  line.setAttribute("role", "alert");
  line.textContent = text;
  found.replaceChildren(line);
}

async function search() {
  const number = ++asked;
  URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(image);
  shown.hidden = false;
  found.classList.add("busy");
  try {
    const answer = await fetch("/search?by=" + mode(), {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: image,
    });
    const html = await answer.text();
    if (number === asked) {
      found.innerHTML = html; // of this server, which escapes what is not its own
    }
  } catch (error) {
    if (number === asked) {
      show("The server does not answer. Is it still running?");
    }
  }
  if (number === asked) {
    found.classList.remove("busy");
  }
}

// The same page compared otherwise; loading it anew would take the focus away.
async function compare(here) {
  const number = ++asked;
  try {
    const page = new DOMParser().parseFromString(
      await (await fetch(here)).text(),
      "text/html",
    );
    if (number === asked) {
      found.replaceChildren(...page.getElementById("found").childNodes);
      history.replaceState(null, "", here);
    }
  } catch (error) {
    if (number === asked) {
      show("The server does not answer. Is it still running?");
    }
  }
}

function take(files) {
  const file = [...files].find((one) => one.type.startsWith("image/")) || files[0];
  if (file) {
    image = file;
    search();
  }
}

input.addEventListener("change", () => take(input.files));
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
form.addEventListener("change", (event) => {
  if (event.target.name !== "by") {
    return;
  }
  if (image) {
    search();
  } else {
    const here = new URL(location.href);
    here.searchParams.set("by", mode());
    compare(here);
  }
});
