"""A parser of command lines that says in one line what was meant, and is short when asked for help.

It is `jsonargparse.ArgumentParser` but for what it prints: no abbreviations, suggestions for
misspelled options, choices and classes, and help with the most used options first.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NoReturn, get_args

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from define.suggestions import did_you_mean

__all__ = ["Parser"]

_WIDTH, _INDENT = 96, 32
_NO_CLASS = re.compile(
    r"Expected a path but \S+ either not accessible or invalid[\s-]*"
    r"Expected a dot import path string: (\S+)"
)
_OR_NONE = re.compile(
    r"(?:- )?Does not validate against any of the Union subtypes\s+"
    r"Subtypes: \[collections\.abc\.Callable\[[^\n]*\], <class 'NoneType'>\]\s+"
    r"Errors:\s+- (.*?)\s+- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
"""What is wrong with a class that may also be omitted: only what is wrong with it matters."""

_SHORTER = (
    (
        r"Dict must include a class_path.*NestedArg\(key='(\w+)'.*",
        r"\1 is an argument of a class: name the class too",
    ),
    (r'Parser key "([^"]*)":', r"--\1:"),
    (r"an? <class '([^']*)'>", r"\1"),
    (r"an? typing.Literal\[(.*?)\]", r"one of \1"),
    (r"Expected a path but \S+ either not accessible or invalid[\s-]*", ""),
    (r"Type \S.*? expects a function or a callable class:\s*", ""),
    (r"\.*\s+Got value: Namespace\(.*", ""),
    (
        r"Does not validate against any of the Union subtypes\s+Subtypes: \[(.*?)\]\s.*"
        r"Given value: (.*?)\.*$",
        r"\2 is none of these: \1",
    ),
    (r"collections\.abc\.", ""),
    (r"Callable\[\[.*?\], .*?\]", "Callable"),
    (r"<class 'NoneType'>", "null"),
    (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
    (r"\bSequence(\[\w+\])?", "a list such as [1,2]"),
    (r"No module named 'nn'", r"\g<0>, but torch.nn"),
)
"""What jsonargparse says, and the same in fewer words."""


class Parser(ArgumentParser):
    """Reads arguments; exits with 2 and one line where it cannot.

    Args:
        short: Options that the help shows; the others wait for `--help-all`. All are shown if it
            is empty.
        options: Of `jsonargparse.ArgumentParser`.
    """

    def __init__(self, *args: Any, short: tuple[str, ...] = (), **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _Formatter, **options})
        self.short = short
        if short:
            self.add_argument("--help-all", action=_HelpAll, help="show all options and exit")

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:  # noqa: ANN401
        """As jsonargparse's; an option that is given nothing, as by an empty variable, is refused.

        A path that is empty would else be the current folder.
        """
        fine = {text for a in self._actions if a.default == "" for text in a.option_strings}
        words = [str(word) for word in args or ()]
        for option, value in pairwise([*words, "-"]):
            name, equals, given = option.partition("=")
            empty = not given if equals else value == ""
            if empty and option.startswith("--") and name not in fine:
                self.error(f"{name} is given an empty value")
        return super().parse_args(args, *more, **options)

    def format_help(self, *args: Any, **options: Any) -> str:  # noqa: ANN401
        return (
            "\n".join(self._short_help()) + "\n"
            if self.short
            else super().format_help(*args, **options)
        )

    def format_usage(self) -> str:
        return f"usage: {self._usage()}\n"

    def format_help_all(self) -> str:
        """All options, without the usage line that names them all a first time."""
        usage, self.usage = self.usage, self._usage()
        try:
            return super().format_help()
        finally:
            self.usage = usage

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        hint = parser._hint(message) if isinstance(parser, Parser) else ""
        text = f"{self._in_one_line(message)}{hint}"
        if not self.exit_on_error:
            raise argparse.ArgumentError(None, text) from ex
        prog = parser.prog.replace(" [options]", "")
        if prog.startswith("define "):
            text = f"{prog}: {text}\n{prog} --help says more."
        else:  # the arguments of a class are read by a parser of their own
            text = f"define: {text}"
        sys.stderr.write(f"{text}\n")
        self.exit(2)

    def _in_one_line(self, message: str) -> str:
        """What jsonargparse says, in fewer words."""
        text = _OR_NONE.sub(r"\1", message.strip())
        text = _NO_CLASS.sub(r"'\1' is neither a class nor a file", text)
        for pattern, words in _SHORTER:
            text = re.sub(pattern, words, text, flags=re.DOTALL)
        for action in self._get_positional_actions():
            for name in action.choices if isinstance(action.choices, dict) else ():
                text = re.sub(rf"(?<=[ :]){name}\.(?=\w)", "--", text)
        text = re.sub(r"\s*\n[\s-]*", " ", text)
        text = re.sub(r"(--[\w.]+): -*(\w+):", r"\1.\2:", text).rstrip(".")
        return text[:1].upper() + text[1:] + ("" if text.endswith("?") else ".")

    def _usage(self) -> str:
        words = [self.prog.replace(" [options]", "")]
        for action in self._actions:
            if action.dest in self.short and _is_required(action):
                words += [action.option_strings[0], _metavar(action)]
        words.append("[OPTIONS]")
        for action in self._get_positional_actions():
            words.append("RECIPE ..." if isinstance(action.choices, dict) else _metavar(action))
        return " ".join(words)

    def _short_help(self) -> Iterator[str]:
        yield f"usage: {self._usage()}\n"
        yield from textwrap.wrap(self.description or "", _WIDTH)
        yield f"\nmost used options ({self.prog.replace(' [options]', '')} --help-all shows all):"
        actions = {action.dest: action for action in self._actions}
        for action in filter(None, map(actions.get, self.short)):
            if action.help == argparse.SUPPRESS:
                continue
            text = re.split(r"(?<=[.;]) ", _plain(action.help or ""))[0].rstrip(".;")
            if action.default not in (None, argparse.SUPPRESS, ()):
                text += f" (default: {_said(action.default)})"
            head = f"  {action.option_strings[0]} {_metavar(action)}"
            indent = " " * _INDENT
            if len(head) >= _INDENT - 1:
                yield head
                head = ""
            yield from textwrap.wrap(
                text,
                _WIDTH,
                initial_indent=head.ljust(_INDENT),
                subsequent_indent=indent,
                break_on_hyphens=False,
            )

    def _hint(self, message: str) -> str:
        """What may have been meant."""
        message = _OR_NONE.sub(r"\1", message)
        options = [
            text
            for action in self._actions
            for text in action.option_strings
            if not text.endswith((".help", "+"))
        ]
        if found := re.search(r"nrecognized arguments: (\S+)", message):
            return did_you_mean(found[1].partition("=")[0], options)
        if found := re.search(r"Option '([^']*)' is not accepted", message):
            return did_you_mean(found[1], (text.lstrip("-") for text in options))
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            return did_you_mean(found[1], re.findall(r"'([^']*)'", found[2]))
        if found := re.search(r"typing.Literal\[(.*?)\]\. Got value: (.*)", message):
            return did_you_mean(found[2], re.findall(r"'([^']*)'", found[1]))
        if found := _NO_CLASS.search(message):
            return did_you_mean(found[1], _class_names(self))
        return ""


class _Formatter(DefaultHelpFormatter):
    """Help with types that say something, not `<class 'Path'>`, and defaults as one types them."""

    def _get_type_str(self, action: argparse.Action) -> str | None:
        text = super()._get_type_str(action)
        return None if text is not None and text.startswith("<class") else text

    def _get_help_string(self, action: argparse.Action) -> str:
        text = _plain(super()._get_help_string(action))
        if action.default in (None, "", [], ()) or action.nargs == 0:  # nothing is given then
            text = re.sub(r"(, )?default: %\(default\)s", "", text).replace(" ()", "")
        default: Any = action.default  # a list stands for several words on the command line
        value = " ".join(default) if isinstance(default, list) else _said(default)
        return text.replace("%(default)s", value.replace("%", "%%"))


class _HelpAll(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: Any, *args: Any) -> None:  # noqa: ANN401
        print(parser.format_help_all(), end="")
        parser.exit()


def _is_required(action: argparse.Action) -> bool:
    # Not `action.required`: while it parses, and so in help, jsonargparse turns that off.
    return action.default is None and type(None) not in get_args(getattr(action, "_typehint", None))


def _metavar(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest.rpartition(".")[2].upper()
    return metavar if isinstance(metavar, str) else " ".join(metavar)


def _plain(text: str) -> str:
    """A docstring's text without the roles of its links."""
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text)


def _said(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, dict) and "class_path" in value:
        given = ", ".join(f"{k}={v}" for k, v in value.get("init_args", {}).items())
        return f"{value['class_path'].rpartition('.')[2]}({given})"
    if isinstance(value, tuple | list):
        return f"[{','.join(map(_said, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _class_names(parser: ArgumentParser) -> Iterator[str]:
    """Names of the classes that the parser's options take."""
    for action in parser._actions:
        waiting = [getattr(action, "_typehint", None)]
        while waiting:
            hint = waiting.pop()
            if isinstance(hint, list):
                waiting += hint
            elif isinstance(hint, type) and hint.__module__.startswith(("define", "torch")):
                yield hint.__name__
                waiting += type.__subclasses__(hint)
            else:
                waiting += get_args(hint)
