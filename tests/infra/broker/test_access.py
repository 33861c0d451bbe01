"""What a process needs at the broker, and the sentence and command for what it lacks."""

import shlex
from pathlib import Path

import pytest
from aiokafka import errors

from infra import config
from infra.broker import access
from infra.broker.access import CLIENT, OWNER, SINK, WORKER, Needs, Right
from infra.config import Settings
from infra.errors import AccessRefused
from tests.infra.broker.secured import token
from tests.infra.broker.security.rights import RIGHTS

SETTINGS = config.load(
    {
        "PETAL_BROKER": "a.example:9093",
        "PETAL_BROKER_PROTOCOL": "SASL_SSL",
        "PETAL_BROKER_SASL_MECHANISM": "PLAIN",
        "PETAL_BROKER_USERNAME": "team one",
        "PETAL_BROKER_PASSWORD": "hunter2",
        "PETAL_PREFIX": "team",
    }
)
START = (
    "kafka-acls.sh --bootstrap-server a.example:9093 --command-config admin.properties "
    "--add --allow-principal 'User:team one' "
)


@pytest.mark.parametrize(
    ("command", "needs"),
    [("worker", WORKER), ("sink", SINK), ("api", CLIENT), ("ask", CLIENT), ("wait", CLIENT)],
)
def test_the_readme_lists_what_each_process_needs(command: str, needs: Needs) -> None:
    found = [tuple(access.called(Settings(), right)) for right in needs.rights()]
    listed = [(operation, kind, name) for operation, kind, name in RIGHTS[command]]
    assert sorted(found) == sorted(listed)


def test_who_creates_topics_needs_to_see_them() -> None:
    create = [right for right in RIGHTS["broker"] if right[0] != "Create"]
    assert sorted(create) == sorted(access.called(Settings(), r) for r in OWNER.rights())


@pytest.mark.parametrize(
    ("error", "lacking", "commands"),
    [
        (
            errors.TopicAuthorizationFailedError("team.tasks"),
            "Read on topic 'team.tasks'",
            ["--operation Read --topic team.tasks"],
        ),
        (
            errors.TopicAuthorizationFailedError({"team.results"}),
            "Write on topic 'team.results'",
            ["--operation Write --topic team.results"],
        ),
        (
            errors.TopicAuthorizationFailedError(),
            "Read on topic 'team.tasks', Write on topic 'team.results', "
            "Write on topic 'team.dead-letters'",
            [
                "--operation Read --topic team.tasks",
                "--operation Write --topic team.results --topic team.dead-letters",
            ],
        ),
        (
            errors.GroupAuthorizationFailedError("team.petal-worker"),
            "Read on group 'team.petal-worker'",
            ["--operation Read --group team.petal-worker"],
        ),
    ],
)
def test_an_error_of_the_broker_becomes_a_sentence_with_the_command(
    error: Exception, lacking: str, commands: list[str]
) -> None:
    wrapped = errors.KafkaError()
    wrapped.__cause__ = error
    for each in (error, wrapped):
        assert str(access.explain(each, SETTINGS, WORKER)) == (
            f"the broker does not allow the user 'team one': {lacking}; run: "
            + " && ".join(START + command for command in commands)
        )


def test_an_old_broker_refuses_idempotent_producers_by_a_right_on_the_cluster() -> None:
    refusal = access.explain(errors.ClusterAuthorizationFailedError(), SETTINGS, CLIENT)
    assert str(refusal) == (
        "the broker does not allow the user 'team one': IdempotentWrite on cluster "
        f"'kafka-cluster'; run: {START}--operation IdempotentWrite --cluster; or set "
        "PETAL_IDEMPOTENCE=off"
    )


def test_other_errors_have_no_such_sentence() -> None:
    assert access.explain(errors.RequestTimedOutError(), SETTINGS, WORKER) is None
    assert access.explain(None, SETTINGS, WORKER) is None
    refusal = AccessRefused("the broker refuses …")
    assert access.explain(refusal, SETTINGS, WORKER) is refusal


def test_the_user_of_a_token_or_certificate_is_named_as_far_as_it_is_known(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token("svc"))
    environ = {"PETAL_BROKER": "a:1", "PETAL_BROKER_PROTOCOL": "SASL_SSL"}
    names = {"SASL_MECHANISM": "OAUTHBEARER", "OAUTH_TOKEN_FILE": str(tmp_path / "token")}
    bearer = config.load({**environ, **{f"PETAL_BROKER_{n}": v for n, v in names.items()}})
    right = [Right("Read", "topic", "tasks")]
    assert "User:svc " in access.sentence(bearer, right)
    environ |= {"PETAL_BROKER_PROTOCOL": "SSL", "PETAL_BROKER_TLS_CERTIFICATE": "c.pem"}
    sentence = access.sentence(config.load(environ), right)
    assert sentence.startswith("the broker does not allow the user of this process: Read on topic")
    command = shlex.split(sentence.partition("run: ")[2])
    assert command[command.index("--allow-principal") + 1].startswith("User:$(openssl x509 -in c.")
