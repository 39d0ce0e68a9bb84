"""Where the command's texts come from: files, standard input, JSON lines."""

import json

import pytest
from cli_support import assert_one_error

LINES = (
    '{"text": "a cat", "id": 7}\n'
    "\n"
    '  {"id": [8], "text": "the sky \\u2603", "text_pair": "a dog"}\r\n'
)


@pytest.fixture
def lines(tmp_path):
    """Write a file; its path."""

    def write(content):
        path = tmp_path / "lines"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_json_lines_from_a_file(run, lines):
    status, out, err = run("embed", "--file", lines(LINES), "--json-lines", "--json")
    assert (status, err) == (0, "")
    assert [result["text"] for result in json.loads(out)] == ["a cat", "the sky ☃"]


@pytest.mark.parametrize("arguments", [(), ("--file", "-")])
def test_json_lines_from_standard_input(run, standard_input, arguments):
    standard_input(LINES.encode())
    _, out, _ = run("embed", *arguments, "--json-lines", "--json")
    assert [result["text"] for result in json.loads(out)] == ["a cat", "the sky ☃"]


def test_without_json_lines_a_brace_is_a_brace(run, lines):
    _, out, _ = run("embed", "--file", lines(LINES), "--json")
    assert [result["text"] for result in json.loads(out)] == [
        line.strip("\r\n") for line in LINES.split("\n") if line.strip()
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n\n{"text": "b"', "lines, line 3 is not JSON: "),
        ("a cat", "lines, line 1 is not JSON: "),
        ("[" * 100_000, "lines, line 1 is not JSON: "),
        ('{"text": "a"}\n["text"]', "lines, line 2 is of type list; expected a JSON object"),
        ('{"text": "a"}\n{"texts": 1, "b": 2}', 'line 2 has no "text"; it has texts, b'),
        ("{}", 'line 1 has no "text"; it has no key'),
        ('{"text": 5}', 'line 1: "text" is of type int; expected str'),
        ('{"text": null}', 'line 1: "text" is of type NoneType; expected str'),
        ('{"text": ""}', "lines, line 1 is empty"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ('\n{"text": "a"}\n\n{"text": " "}', "lines, line 4 is empty"),
        ("\n \n", "lines holds no text"),
        (b'{"text": "\xff"}', "lines is not UTF-8: byte 0xff at offset 10"),
    ],
)
def test_wrong_json_lines(run, lines, content, message):
    assert_one_error(run("embed", "--file", lines(content), "--json-lines"), message)


def test_json_lines_are_not_arguments(run):
    assert_one_error(run("embed", '{"text": "a"}', "--json-lines"), "both TEXT and --json-lines")
