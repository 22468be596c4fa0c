"""That what the configuration says reaches the workers; what it may say is in tests/unit."""


def test_variables_of_the_environment(start):
    server = start("small_apps:hello", env={
        "FASTFORK_SERVER_HEADER": "of the environment", "FASTFORK_PORT": "tcp://10.0.0.1:80",
        "FASTFORK_WORKERS": "2"})  # fmt: skip
    assert server.get().header("server") == "of the environment"
    assert len(server.ready["workers"]) == 1  # the flag goes before
    assert "[WARNING] The environment variable FASTFORK_PORT is no setting" in server.stderr
    assert server.stderr.count("[WARNING]") == 1
