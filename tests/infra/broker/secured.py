"""A Kafka with TLS, SASL and ACLs, whose certificates, users and tokens are made by the test."""

import base64
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.processes import Pipeline, Process, free_port, wait_until

PASSWORD = "correct-horse-battery-staple"  # of every user
KAFKA_JAAS = "org.apache.kafka.common.security"
LISTENERS = ("TLS", "MUTUAL", "LOGIN", "CLEAR", "SHORT")
Binding = tuple[str, str, str]  # an operation, a kind of resource, its name


class Authority:
    """A certificate authority of one test run, and the files that it has written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def certificate(self, name: str, *identities: str, **options: Any) -> Path:
        """A certificate and its key in one file."""
        issued = self._ca.issue_cert(*(identities or (name,)), common_name=name, **options)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self._folder / f"{name}.pem"
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        path.write_bytes(text + chain)
        return path


class Secured:
    """One broker with a listener for each kind of connection, and an admin without limits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.authority = Authority(folder)
        self.ports = {name: free_port() for name in ("BROKER", "CONTROLLER", *LISTENERS)}
        self._pipeline = Pipeline(folder, {})
        self._server = self.authority.certificate("broker", "127.0.0.1")

    def start(self) -> Process:
        """Start the broker; returns its process."""
        port, folder = str(self.ports["BROKER"]), str(self._pipeline.folder / "kafka")
        kafka = self._pipeline.start(
            sys.executable, "-m", "infra.kafka", "--port", port, "--folder", folder,
            *(word for line in self._properties() for word in ("--property", line)),
        )  # fmt: skip
        kafka.wait_for("Apache Kafka on", seconds=180.0)
        self.admin = AdminClient({"bootstrap.servers": self.address("BROKER"), "log_level": 0})
        wait_until(self._answers, 60.0, "the broker answers")
        return kafka

    def _answers(self) -> bool:
        try:
            return bool(self.admin.list_topics(timeout=1.0))
        except KafkaException:
            return False

    def close(self) -> None:
        self._pipeline.__exit__(None, None, None)

    def address(self, listener: str, host: str = "127.0.0.1") -> str:
        return f"{host}:{self.ports[listener]}"

    def _listeners(self, *names: str) -> str:
        return ",".join(f"{name}://127.0.0.1:{self.ports[name]}" for name in names)

    def _properties(self) -> list[str]:
        def users(mechanism: str, lines: str) -> str:
            return f"{mechanism}.sasl.jaas.config={KAFKA_JAAS}.{lines};"

        plain = f'plain.PlainLoginModule required user_plain="{PASSWORD}"'
        scram = "scram.ScramLoginModule required"
        token = 'oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
        login = ("login", "short", "clear")
        return [
            f"controller.quorum.voters=1@127.0.0.1:{self.ports['CONTROLLER']}",
            "listeners=" + self._listeners(*self.ports),
            "advertised.listeners=" + self._listeners("BROKER", *LISTENERS),
            "listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,"
            "MUTUAL:SSL,LOGIN:SASL_SSL,SHORT:SASL_SSL,CLEAR:SASL_PLAINTEXT",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self._server}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self.authority.ca}",
            "listener.name.mutual.ssl.client.auth=required",
            *(f"listener.name.{n}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER"
              for n in login),
            *(f"listener.name.{n}." + users("plain", plain) for n in login),
            *(f"listener.name.{n}." + users("scram-sha-512", scram) for n in login),
            *(f"listener.name.{n}." + users("oauthbearer", token) for n in login),
            "listener.name.short.connections.max.reauth.ms=2000",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
        ]  # fmt: skip

    def user(self, *names: str, password: str = PASSWORD) -> None:
        """Create users of SCRAM, or change their password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        changes = [UserScramCredentialUpsertion(name, info, password.encode()) for name in names]
        for future in self.admin.alter_user_scram_credentials(changes).values():
            future.result(20)

    def grant(self, rights: Mapping[str, Sequence[Binding]]) -> None:
        """Let users do this, besides what they may do."""
        acls = [_acl(user, *binding) for user, each in rights.items() for binding in each]
        for future in self.admin.create_acls(acls).values() if acls else ():
            future.result(20)

    def allow(self, user: str, bindings: Sequence[Binding]) -> None:
        """Let a user do this, and nothing else."""
        self.forbid(user)
        self.grant({user: bindings})

    def forbid(self, user: str) -> None:
        """Delete the rights of a user."""
        every = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{user}", None,
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        for future in self.admin.delete_acls([every]).values():
            future.result(20)


def _acl(user: str, operation: str, kind: str, name: str) -> AclBinding:
    return AclBinding(
        {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.BROKER}[
            kind
        ],
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        getattr(AclOperation, operation.upper()),
        AclPermissionType.ALLOW,
    )


def token(subject: str, seconds: float = 300.0) -> str:
    """A JWT without a signature, which Kafka's validator for development takes."""

    def part(claims: Mapping[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    now = time.time()
    claims = {"sub": subject, "iat": now, "exp": now + seconds}
    return f"{part({'alg': 'none'})}.{part(claims)}."
