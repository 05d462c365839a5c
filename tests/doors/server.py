"""`python -m tests.doors.server`: marketplace.config.server, whose calls have time to wait for PostgreSQL."""

from marketplace.config.environment import Environment
from marketplace.config.server import Server
from tests.patience import have_patience

if __name__ == "__main__":
    have_patience()
    Server(Environment().resolved()).run()
