import pytest

from experiments._lib.check_config import check_config
from experiments.configs import glyph_strings
from experiments.configs import glyphs
from experiments.configs import image_folder
from experiments.configs import image_folder_paper
from experiments.configs import omniglot


@pytest.mark.parametrize(
    "module", [glyph_strings, glyphs, image_folder, image_folder_paper, omniglot]
)
def test_configs_are_right_as_they_stand(module):
    check_config(module.get_config())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("classes", 0),
        ("images_per_class", -1),
        ("image_size", 0),
        ("resize", 27),
        ("dim", 0),
        ("evaluate_every", 0),
        ("nmi_starts", -1),
        ("seed", -1),
        ("seed", 2**31),
        ("loss", "triplet"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("temperature", -0.05),
        ("momentum", 1.0),
        ("l2", -1e-4),
        ("decay_at", (0.9, 0.5)),
        ("decay_at", (1.5,)),
        ("decay_at", (-0.5,)),
        ("ks", (0,)),
        ("ks", (1, 1)),
        ("ks", ()),
        ("cache", "ram"),
        ("weights", "imagenet"),
        ("pooling", "token"),
        ("batch_norm", "rest"),
        ("batch_norm", "frozen"),  # with weights = ""
        ("class_weights", "mean"),
        ("index", "tree"),
        ("index_agreement", 0.0),
        ("index_agreement", 1.01),
        ("verification", (1.0,)),
        ("verification", (0.01, 0.01)),
        ("validation_classes", 1.5),
        ("validation_classes", -0.2),
    ],
)
def test_wrong_setting_is_named_with_its_value(name, value):
    config = glyphs.get_config()
    config[name] = value
    with pytest.raises(
        ValueError, match=rf"^--config\.{name} must be .*; got "
    ) as error:
        check_config(config)
    assert str(error.value).endswith(f"got {value!r}.")


def test_validation_classes_that_would_never_be_measured_are_refused():
    config = glyphs.get_config()
    config.validation_classes = 0.2
    config.evaluate_every = config.epochs + 1
    with pytest.raises(ValueError, match="evaluate_every"):
        check_config(config)


def test_missing_faiss_is_said_before_training(monkeypatch):
    config = glyphs.get_config()
    config.index = "hnsw"
    check_config(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[faiss\]"'):
        check_config(config)


@pytest.mark.parametrize(
    ("name", "value"), [("balanced", False), ("classes", 1), ("images_per_class", 1)]
)
def test_batches_without_pairs_are_refused_with_a_loss_on_pairs(name, value):
    config = glyphs.get_config()
    config[name] = value
    check_config(config)
    config.loss = "triplet_hard"
    with pytest.raises(ValueError, match=rf"--config\.{name} must be .*triplet_hard"):
        check_config(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer", "adamv"),
        ("schedule", "linear"),
        ("warmup_epochs", -1.0),
        ("layer_decay", 0.0),
        ("layer_decay", 1.5),
        ("precision", "float16"),
        ("jit_compile", "yes"),
        ("deterministic", 1),
        ("warmup_epochs", 1.0),  # with schedule = "step"
        ("jit_compile", True),  # with deterministic = True
    ],
)
def test_wrong_setting_of_the_optimization_is_named(name, value):
    config = glyphs.get_config()
    with config.ignore_type():
        config[name] = value
    with pytest.raises(ValueError, match=rf"^--config\.{name} must be ") as error:
        check_config(config)
    assert str(error.value).endswith(f"got {value!r}.")


def test_warm_up_of_all_epochs_is_refused():
    config = glyphs.get_config()
    config.schedule, config.warmup_epochs = "cosine", float(config.epochs)
    with pytest.raises(ValueError, match=r"warmup_epochs must be below .*epochs = "):
        check_config(config)


def test_xla_with_drawn_classes_is_refused():
    config = glyphs.get_config()
    config.jit_compile, config.deterministic = True, False
    check_config(config)
    config.sampled_classes = 0.5
    with pytest.raises(ValueError, match=r"jit_compile must be False with .*sampled"):
        check_config(config)


def test_any_optimizer_of_keras_may_freeze_and_slow_the_trunk():
    config = glyphs.get_config()
    config.frozen_epochs, config.layer_decay = 1, 0.75
    for name in ("sgd", "adamw", "lion", "rmsprop"):
        config.optimizer = name
        check_config(config)
