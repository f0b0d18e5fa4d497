"""The libraries that people have their tables in, each real: `make test-integrations`."""
