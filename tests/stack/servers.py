"""The three servers as the tests of the local stack hold them."""

from dataclasses import dataclass

from functions.stack.postgres import Postgres
from functions.stack.s3 import S3
from functions.stack.state import State
from functions.stack.supervisor import Supervisor
from functions.stack.valkey import Valkey


@dataclass(frozen=True)
class Servers:
    state: State
    supervisor: Supervisor
    postgres: Postgres
    valkey: Valkey
    s3: S3
