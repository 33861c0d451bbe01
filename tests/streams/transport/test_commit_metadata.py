import pytest

from streams.commit_metadata import CommitMetadata, decode, encode, is_of_log


def test_metadata_survives_the_broker() -> None:
    metadata = CommitMetadata(log="embedded-1/0123456789abcdef", attempts=3)

    assert decode(encode(metadata)) == metadata


def test_metadata_without_attempts_takes_few_bytes() -> None:
    assert encode(CommitMetadata(log="a")) == '{"log":"a"}'


def test_fields_of_a_later_version_are_ignored() -> None:
    assert decode('{"log":"a","later":[1]}') == CommitMetadata(log="a")


@pytest.mark.parametrize(
    "text", [None, "", "7f3c", "{", "[]", '{"log":1}', '{"attempts":"x"}', "null", "\ud800", "é"]
)
def test_a_string_of_another_program_says_nothing(text: str | None) -> None:
    assert decode(text) == CommitMetadata()


@pytest.mark.parametrize(
    ("metadata", "is_believed"),
    [("", True), ("7f3c", True), ('{"log":"c/1"}', True), ('{"log":"c"}', True),
     ('{"log":"c/2"}', False), ('{"log":"d"}', False)],
)  # fmt: skip
def test_an_offset_of_another_log_is_not_believed(metadata: str, is_believed: bool) -> None:
    assert is_of_log(metadata, "c/1") is is_believed
