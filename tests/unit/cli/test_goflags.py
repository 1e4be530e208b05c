"""Command lines in Go's style."""

import pytest

from pillion.errors import Invalid
from pillion.goflags import Flag, Parser


@pytest.fixture
def parser():
    made = Parser("prog", "Does something.")
    made.add_flags(
        [
            Flag(name="app-id", short="a", help="the app", metavar="ID"),
            Flag(name="app-port", short="p", help="its port", metavar="PORT", aliases=("port",)),
            Flag(name="verbose", help="talk", metavar=""),
            Flag(name="label", help="labels", many=True, metavar="KEY=VALUE"),
        ]
    )
    made.add_argument("words", nargs="*")
    return made


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--app-id x", "app-id", "x"),
        ("--app-id=x", "app-id", "x"),
        ("-app-id x", "app-id", "x"),
        ("-app-id=x", "app-id", "x"),
        ("-a x", "app-id", "x"),
        ("-a=x", "app-id", "x"),
        ("-ax", "app-id", "x"),
        ("-p8080", "app-port", "8080"),
        ("--port 1", "app-port", "1"),
        ("--app-port -1", "app-port", "-1"),
        ("--app-id --verbose", "app-id", "--verbose"),
        ("--app-id=", "app-id", ""),
        ("--app-id=a=b", "app-id", "a=b"),
        ("--app-id x --app-id y", "app-id", "y"),
        ("--verbose", "verbose", "true"),
        ("-verbose", "verbose", "true"),
        ("--verbose=false", "verbose", "false"),
        ("--label a=1 -label b=2", "label", ["a=1", "b=2"]),
    ],
)
def test_every_way_to_write_a_flag(parser, line, name, value):
    """One and two dashes, with and without '=', and short names mean the same."""
    assert getattr(parser.parse(line.split()), name) == value


def test_a_switch_does_not_take_the_next_word(parser):
    """A word after a switch is a word, as in Go."""
    found = parser.parse(["--verbose", "false"])
    assert (found.verbose, found.words) == ("true", ["false"])


def test_flags_that_are_not_given_are_none(parser):
    """The reader of the namespace can tell what was given."""
    assert vars(parser.parse([])) == {
        "app-id": None,
        "app-port": None,
        "verbose": None,
        "label": None,
        "words": [],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--app-prt 1", 'unknown flag --app-prt; did you mean "--app-port"?'),
        ("-app-prt 1", 'unknown flag -app-prt; did you mean "--app-port"?'),
        ("--zzz", "unknown flag --zzz"),
        ("-z", "unknown flag -z"),
        ("--app 1", 'unknown flag --app; did you mean "--app-id"?'),
        ("--app-id", "--app-id needs a value"),
    ],
)
def test_a_mistake_is_one_line_with_a_hint(parser, line, message):
    """Names are not abbreviated, and a misspelt one brings the nearest."""
    with pytest.raises(Invalid) as caught:
        parser.parse(line.split())
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("line", "own", "rest"),
    [
        ("-a x -- python -c pass", "x", ["python", "-c", "pass"]),
        ("-a x python -a y", "x", ["python", "-a", "y"]),
        ("-a x -- -weird", "x", ["-weird"]),
        ("-- a -- b", None, ["a", "--", "b"]),
        ("-a x", "x", []),
    ],
)
def test_the_command_line_of_another_program_is_left_alone(parser, line, own, rest):
    """What follows '--', or the first plain word, belongs to the other program."""
    parser.rest = "command"
    found = parser.parse(line.split())
    assert (getattr(found, "app-id"), found.command) == (own, rest)
