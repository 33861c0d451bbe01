from tests.benchmarks.profile import __main__ as profile


def test_a_sample_of_the_profile_belongs_to_its_innermost_known_frame() -> None:
    lines = [
        "main (streams/__main__.py:27);infer (streams/worker.py:9);_lines (streams/codec.py:2) 3",
        "main (streams/__main__.py:27);execute_from_commandline (mode/worker.py:1) 4",
        "infer (streams/worker.py:9);compute (model/fast/logistic.py:3);clip (elsewhere.py:1) 2",
        "x (unknown.py:1) 1",
    ]
    assert profile.shares(lines) == {
        "event loop": 0.4, "encode results": 0.3, "predict": 0.2, "other": 0.1,
    }  # fmt: skip
