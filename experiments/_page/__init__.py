"""The search page: what it answers (`app`), its HTML (`html`), style and script.

`experiments.search_page` alone opens this room. The page is made here, on the server;
the script only sends images that are dropped, pasted or chosen, and shows the answer.
"""
