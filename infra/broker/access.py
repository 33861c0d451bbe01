"""The rights that a process needs at the broker, and a sentence with the command for a lacking one.

Kafka says which operations on a topic are allowed (KIP-430), so rights on topics are looked at
before anything starts. A group's, and what is taken away later, show when they are used.
"""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from infra.broker.metadata import TopicIdsRequest
from infra.broker.security.oauth import Tokens
from infra.config import Settings, variable
from infra.errors import AccessRefused, ConfigError

# Of Kafka's AclOperation.
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8}
UNKNOWN = -(2**31)  # instead of the operations: the broker does not say
CLUSTER = "kafka-cluster"
IMPLIES_DESCRIBE = ("Read", "Write")


class Right(NamedTuple):
    """An operation on a resource, by the name that `Names` has for it."""

    operation: str
    kind: str  # topic, group or cluster
    name: str


class Needs(NamedTuple):
    """What a process does with topics and a group, by their names in `infra.topics.Names`."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    describe: tuple[str, ...] = ()
    group: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that must exist."""
        return tuple(dict.fromkeys((*self.read, *self.write, *self.describe)))

    def rights(self) -> list[Right]:
        """One for each operation and resource."""
        operations = (("Read", self.read), ("Write", self.write), ("Describe", self.describe))
        rights = [Right(op, "topic", name) for op, names in operations for name in names]
        return rights + ([Right("Read", "group", self.group)] if self.group else [])


TOPICS = ("tasks", "results", "dead_letters")
OWNER = Needs(describe=TOPICS)  # creates them
WORKER = Needs(read=("tasks",), write=("results", "dead_letters"), group="worker_group")
SINK = Needs(read=("results",), group="sink_group")
CLIENT = Needs(read=("results",), write=("tasks",))
EVERYONE = Needs()


def called(settings: Settings, right: Right) -> Right:
    """A right with the resource's name at the broker."""
    name = CLUSTER if right.kind == "cluster" else getattr(settings.names, right.name)
    return right._replace(name=name)


async def check(admin: AIOKafkaAdminClient, settings: Settings, needs: Needs) -> None:
    """Raise AccessRefused for what this process may not do with topics that exist."""
    rights = [called(settings, right) for right in needs.rights() if right.kind == "topic"]
    names = list(dict.fromkeys(right.name for right in rights))
    if not names:
        return
    response = await admin._send_request(TopicIdsRequest(names, with_operations=True))
    found = {topic["topic"]: topic for topic in response.to_object()["topics"]}
    lacking = [right for right in rights if not _may(right, found.get(right.name, {}))]
    if lacking:
        raise AccessRefused(sentence(settings, lacking))


def _may(right: Right, topic: Mapping[str, Any]) -> bool:
    """Whether a right is there, or not known."""
    if topic.get("error_code") == TopicAuthorizationFailedError.errno:
        return False
    operations = topic.get("authorized_operations", UNKNOWN)
    if topic.get("error_code", 0) != 0 or operations == UNKNOWN:
        return True
    return bool(operations >> OPERATIONS[right.operation] & 1)


def may_not_create(settings: Settings, topics: Sequence[str]) -> AccessRefused:
    """That topics are missing, and this process may not create them."""
    rights = [Right("Create", "topic", topic) for topic in topics]
    return AccessRefused(
        f"{sentence(settings, rights)}; or let an account that may create topics run: petal broker"
    )


def explain(error: BaseException | None, settings: Settings, needs: Needs) -> AccessRefused | None:
    """The sentence for an error by which a broker refuses an operation; None for another error."""
    rights = [called(settings, right) for right in needs.rights()]
    while error is not None:
        if isinstance(error, AccessRefused):
            return error
        if isinstance(error, GroupAuthorizationFailedError):
            rights = [right for right in rights if right.kind == "group"]
            return AccessRefused(sentence(settings, rights))
        if isinstance(error, TopicAuthorizationFailedError):
            rights = [right for right in rights if right.kind == "topic"]
            named = [right for right in rights if right.name in _words(error)]
            return AccessRefused(sentence(settings, named or rights))
        if isinstance(error, ClusterAuthorizationFailedError):
            right = Right("IdempotentWrite", "cluster", CLUSTER)
            return AccessRefused(
                f"{sentence(settings, [right])}; or set {variable('idempotence')}=off"
            )
        error = error.__cause__ or error.__context__
    return None


def _words(error: KafkaError) -> set[str]:
    """The names of topics in an error of aiokafka: a name, or a set of them."""
    names: set[str] = set()
    for argument in error.args:
        names |= {argument} if isinstance(argument, str) else set(argument)
    return names


def sentence(settings: Settings, rights: Sequence[Right]) -> str:
    """That these rights are lacking, and the commands that grant them."""
    lacking = ", ".join(
        f"{right.operation} on {right.kind} {right.name!r}" for right in dict.fromkeys(rights)
    )
    commands = " && ".join(_commands(settings, rights))
    return f"the broker does not allow {user(settings)}: {lacking}; run: {commands}"


def _commands(settings: Settings, rights: Sequence[Right]) -> list[str]:
    """One command for each set of operations: it grants all of them on all of its resources."""
    operations: dict[str, list[str]] = {}
    for right in dict.fromkeys(rights):
        resource = "--cluster" if right.kind == "cluster" else f"--{right.kind} {right.name}"
        operations.setdefault(resource, []).append(f"--operation {right.operation}")
    resources: dict[str, list[str]] = {}
    for resource, names in operations.items():
        resources.setdefault(" ".join(names), []).append(resource)
    return [
        f"kafka-acls.sh --bootstrap-server {settings.bootstrap} --command-config admin.properties "
        f"--add --allow-principal {_principal(settings)} {names} {' '.join(on)}"
        for names, on in resources.items()
    ]


def user(settings: Settings) -> str:
    """The user of this process, as far as it is known here."""
    name = _name(settings)
    return "the user of this process" if name is None else f"the user {name!r}"


def _principal(settings: Settings) -> str:
    name = _name(settings)
    if name is not None:
        return shlex.quote(f"User:{name}")
    if settings.broker_tls_certificate is not None:
        file = shlex.quote(str(settings.broker_tls_certificate))
        subject = f"openssl x509 -in {file} -noout -subject -nameopt RFC2253"
        return f'"User:$({subject} | cut -d= -f2-)"'
    return "User:ANONYMOUS"


def _name(settings: Settings) -> str | None:
    if settings.broker_sasl_mechanism != "OAUTHBEARER":
        return settings.broker_username or None
    with suppress(ConfigError, KafkaError, ValueError, KeyError, IndexError):
        claims = Tokens(settings).get().split(".")[1]
        decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return str(decoded["sub"])
    return None
