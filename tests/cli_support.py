"""What tests of the command share."""


def assert_one_error(result, message):
    """Status 2, nothing printed but one line on standard error, which holds the message."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("albert-np: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert message in err
