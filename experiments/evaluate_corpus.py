r"""Measures Recall@K of a corpus of any size, on one machine or many.

python -m experiments.evaluate_corpus --corpus=photos.corpus \
    [--ray_address=HOST:PORT]

The corpus is a folder that experiments.embed_corpus wrote of a folder of images; their
classes are the folders below it. Every image searches all others, exactly, by cosine
and by binary code. The figures are those of keras_dml.evaluation.recall_at_k, bit for
bit; no machine holds more than a hundred thousand embeddings.
"""

from absl import flags

from experiments._corpus.cluster import check_ray
from experiments._corpus.cluster import connected
from experiments._corpus.gallery import whole_shards
from experiments._corpus.recall import corpus_parts
from experiments._corpus.recall import corpus_recall
from experiments._corpus.record import read_record
from experiments._lib import program
from keras_dml._files import check_writable_file
from keras_dml._files import write_json

_CORPUS = flags.DEFINE_string("corpus", None, "The folder of a corpus.")
_RAY_ADDRESS = flags.DEFINE_string(
    "ray_address",
    None,
    'A Ray cluster, as host:port, ray://host:port, or "auto" for the one that runs on '
    "this machine. Default: one is started, of this machine alone.",
)
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file to write the figures to.")
flags.mark_flag_as_required("corpus")


def main(argv: list[str]) -> None:
    """Shards → bars → counts → Recall@K."""
    del argv
    check_ray()
    if _OUTPUT.value:
        check_writable_file(_OUTPUT.value, "--output")
    files = whole_shards(_CORPUS.value, read_record(_CORPUS.value))
    parts = corpus_parts(files)
    images = sum(len(part.labels) for part in parts)
    metrics = {}
    with connected(_RAY_ADDRESS.value, None):
        for name, column in (("float", "embedding"), ("binary", "code")):
            print(f"Comparing the {column}s of {images:,} images:")
            metrics[name] = corpus_recall(parts, column)
    print(f"\nRetrieval in {_CORPUS.value}, %")
    for name, recalls in metrics.items():
        figures = (f"R@{key[7:]} {100 * one:.1f}" for key, one in recalls.items())
        print(f"{name:8}" + "  ".join(figures))
    if _OUTPUT.value:
        write_json(_OUTPUT.value, {"images": images, **metrics})


if __name__ == "__main__":
    program.run(main)
