"""A real broker with logins, certificates and permissions, and the files that a client needs to come in."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion
from processes import until

from streamil.errors import BrokerRefused, TopicMissing
from streamil.experiment import Kafka
from streamil.kafka import describe_topic
from streamil.local_kafka import LocalKafka
from streamil.local_kafka.broker import _free_port

USERS = {"alice": "alice-secret-71", "bob": "bob-secret-72", "dave": "dave-secret-73"}
"""All of them may log in by every mechanism; `dave` may do only what a rule allows."""

MORE = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},{names}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},{names}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL,TLS:SSL,MUTUAL:SSL,STALE:SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasltls.sasl.enabled.mechanisms=SCRAM-SHA-512
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.stale.ssl.keystore.type=PEM
listener.name.stale.ssl.keystore.location={folder}/other-host.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:alice;User:bob;User:client
ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/
"""
MODULES = {"PLAIN": "plain.PlainLoginModule", "SCRAM-SHA-256": "scram.ScramLoginModule", "SCRAM-SHA-512": "scram.ScramLoginModule"}


class SecuredKafka(LocalKafka):
    """A local Kafka with more doors: SASL, SASLTLS (SCRAM-SHA-512 alone), TLS, MUTUAL, and STALE for another host."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.doors: dict[str, int] = {}
        self.passwords = USERS
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA(organization_name="streamil tests")
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        for file, names in {"broker.pem": ["127.0.0.1", "localhost"], "other-host.pem": ["elsewhere.example"], "client.pem": ["client"]}.items():
            issued = self.authority.issue_cert(*names, common_name=names[0])
            key = load_pem_private_key(issued.private_key_pem.bytes(), None)
            certificate = issued.cert_chain_pems[0].bytes()
            # the form that Kafka takes
            (folder / file).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
            encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"key-secret-74"))
            (folder / file).with_suffix(".key").write_bytes(encrypted)
            (folder / file).with_suffix(".crt").write_bytes(certificate)
        trustme.CA(organization_name="strangers").cert_pem.write_to_path(str(folder / "strangers.pem"))
        for name, password in self.passwords.items():
            (folder / f"{name}.password").write_text(f"{password}\n")

    def _configure(self, command: list[str]) -> Path:
        properties = super()._configure(command)
        for name in ("SASL", "SASLTLS", "TLS", "MUTUAL", "STALE"):
            self.doors.setdefault(name, _free_port())
        plain, controller = self._ports()
        names = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.doors.items())
        lines = [properties.read_text(), MORE.format(plain=plain, controller=controller, names=names, folder=self.folder)]
        for listener in ("sasl", "sasltls"):
            for mechanism, module in MODULES.items():
                users = "".join(f' user_{name}="{password}"' for name, password in self.passwords.items() if mechanism == "PLAIN")
                lines.append(f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config=org.apache.kafka.common.security.{module} required{users};")
        properties.write_text("\n".join(lines) + "\n")  # of two lines with one key Java takes the later
        return properties

    def start(self) -> None:
        super().start()
        self.set_passwords(self.passwords)

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Set the passwords for SCRAM, and wait until they hold, which takes the broker a moment."""
        with closing(KafkaAdminClient(bootstrap_servers=self.address)) as client:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):  # a user once a request
                answers = client.alter_user_scram_credentials([
                    UserScramCredentialUpsertion(name, mechanism, password) for name, password in passwords.items()])
                assert not any(answers.values()), answers
        last = self.folder / "last.password"
        last.write_text([*passwords.values()][-1])
        until(lambda: self._lets_in([*passwords][-1], last))

    def _lets_in(self, user: str, password_file: Path) -> bool:
        try:
            describe_topic(self.at("SASL", login={"username": user, "password_file": password_file}), "nothing")
        except TopicMissing:
            return True
        except BrokerRefused as refused:
            return "does not allow" in str(refused)  # so it knows who it is
        return True

    def at(self, door: str, **access: object) -> Kafka:
        """Return the settings of a client at a door; paths in `access` are those of our folder."""
        return Kafka.model_validate({"bootstrap_servers": f"127.0.0.1:{self.doors[door]}", **access}, context={"folder": self.folder})
