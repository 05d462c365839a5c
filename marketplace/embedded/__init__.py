"""PostgreSQL, Valkey and Triton from wheels for whoever has none of their own, and the supervisor behind `make run`."""
