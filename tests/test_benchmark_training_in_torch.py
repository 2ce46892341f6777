import pytest

from tests import fork_server


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["batch_norm=frozen", "loss=cos_face"])
def test_settings_that_one_side_would_not_have_are_refused(setting):
    pytest.importorskip("torch")
    pytest.importorskip("pytorch_metric_learning")
    name, _, value = setting.partition("=")
    finished = fork_server.run_module(
        "tests.benchmarks.benchmark_training_in_torch",
        "--config=experiments/configs/glyphs.py",
        f"--config.{setting}",
    )
    assert finished.returncode == 1
    assert f"--config.{name} must be" in finished.stdout + finished.stderr
    assert value in finished.stdout + finished.stderr
