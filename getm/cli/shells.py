"""Completion scripts for bash, zsh and fish, from the words and options of `getm.cli.schema`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from getm.cli.schema import Command, Kind, Option, Value, commands


def script(shell: str) -> str:
    """The script for `shell`, one of `getm.cli.completion.SHELLS`."""
    return _SCRIPTS[shell](commands())


def _words(commands: Iterable[Command]) -> list[Command]:
    return [command for command in commands if command.word]


def _first_sentence(text: str) -> str:
    return re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]


# bash ----------------------------------------------------------------------------------------------------------------

# Works with bash 3.2, which macOS has: no mapfile, and a compopt that fails is no harm. "-o default": where COMPREPLY
# stays empty, readline completes names of files.
_BASH = """\
# bash completion for getm
_getm() {{
    local IFS=$' \\t\\n' current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} word=
    COMPREPLY=()
    # "--option=value" comes as three words.
    if [[ $current == '=' ]]; then
        current=
    elif [[ $previous == '=' && $COMP_CWORD -gt 2 ]]; then
        previous=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    if [[ $COMP_CWORD -gt 1 ]]; then
        case ${{COMP_WORDS[1]}} in
            {words_case}) word=${{COMP_WORDS[1]}} ;;
        esac
    fi
    case $word:$previous in
{values}
    esac
    case $word:$current in
{options}
    esac
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W '{words}' -- "$current"))
        return
    fi
    case $word in
{operands}
    esac
}}
complete -o default -F _getm getm
"""


def _bash(commands: Sequence[Command]) -> str:
    words = [command.word for command in _words(commands)]
    values, options, operands = [], [], []
    for command in commands:
        names = " ".join(name for option in command.options for name in option.names)
        options.append(f"""        {command.word}:-*) COMPREPLY=($(compgen -W '{names}' -- "$current")); return ;;""")
        for option in command.options:
            if option.value is not None:
                pattern = "|".join(f"{command.word}:{name}" for name in option.names)
                values.append(f"        {pattern}) {_bash_value(option.value)}return ;;")
        if command.operand is not None and command.word:
            operands.append(f"        {command.word}) {_bash_value(command.operand)}return ;;")
    return _BASH.format(
        words_case="|".join(words),
        words=" ".join(words),
        values="\n".join(values),
        options="\n".join(options),
        operands="\n".join(operands),
    )


def _bash_value(value: Value) -> str:
    match value.kind:
        case Kind.FILE:
            return ""
        case Kind.FOLDER:
            return """compopt -o filenames 2>/dev/null; IFS=$'\\n'; COMPREPLY=($(compgen -d -- "$current")); """
        case Kind.WORD:
            return f"""COMPREPLY=($(compgen -W '{" ".join(value.words)}' -- "$current")); """
    return "compopt +o default 2>/dev/null; "


# zsh -----------------------------------------------------------------------------------------------------------------

_ZSH = """\
#compdef getm
# zsh completion for getm

_getm_first() {{
    _alternative {words} 'files:file:_files'
}}

_getm() {{
    if (( CURRENT > 2 )); then
        case $words[2] in
{cases}
        esac
    fi
    _arguments -S \\
{specs} \\
        '1: :_getm_first' \\
        '*:FILE:_files'
}}

if [[ $funcstack[1] == _getm ]]; then
    _getm "$@"
else
    compdef _getm getm
fi
"""


def _zsh(commands: Sequence[Command]) -> str:
    words = " ".join(f'{command.word}\\:"{_first_sentence(command.description)}"' for command in _words(commands))
    cases = []
    for command in _words(commands):
        specs = list(_zsh_specs(command))
        if command.operand is not None:
            specs.append(_quoted(f"*:{_zsh_value(command.operand)}"))
        listed = " \\\n                    ".join(specs)
        cases.append(
            f"            {command.word})\n                shift words; (( CURRENT-- ))\n"
            f"                _arguments -S \\\n                    {listed}\n                return ;;"
        )
    specs = [f"        {spec}" for spec in _zsh_specs(commands[0])]
    return _ZSH.format(words=_quoted(f"words:command:(({words}))"), cases="\n".join(cases), specs=" \\\n".join(specs))


def _zsh_specs(command: Command) -> Iterator[str]:
    for option in command.options:
        # What stands first cannot come beside this one; "*": it can come again.
        before = "*" if option.repeatable else f"({' '.join(option.names)})"
        for name in option.names:
            mark = "=" if option.value is not None and name.startswith("--") else ""
            value = "" if option.value is None else f":{_zsh_value(option.value)}"
            yield _quoted(f"{before}{name}{mark}[{_zsh_escaped(option.help)}]{value}")


def _zsh_value(value: Value) -> str:
    """MESSAGE:ACTION of _arguments."""
    actions = {Kind.FILE: "_files", Kind.FOLDER: "_files -/", Kind.WORD: f"({' '.join(value.words)})"}
    return f"{_zsh_escaped(value.name)}:{actions.get(value.kind, ' ')}"


def _zsh_escaped(text: str) -> str:
    return re.sub(r"([\\:\[\]])", r"\\\1", text)


# fish ----------------------------------------------------------------------------------------------------------------


def _fish(commands: Sequence[Command]) -> str:
    words = " ".join(command.word for command in _words(commands))
    lines = ["# fish completion for getm"]
    for command in commands:
        seen = (
            f"__fish_seen_subcommand_from {command.word}"
            if command.word
            else f"not __fish_seen_subcommand_from {words}"
        )
        if command.word:
            described = _quoted(_first_sentence(command.description), fish=True)
            lines.append(f"complete -c getm -n __fish_use_subcommand -a {command.word} -d {described}")
        operand = command.operand
        if operand is None:
            lines.append(f"complete -c getm -n '{seen}' -f")
        elif operand.words:
            lines.append(f"complete -c getm -n '{seen}' -f -a {_quoted(' '.join(operand.words), fish=True)}")
        lines += [f"complete -c getm -n '{seen}' {_fish_option(option)}" for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = []
    for name in option.names:
        if name.startswith("--"):
            parts.append(f"-l {name[2:]}")
        else:
            # "-cs" is one option to argparse, and an "old style" one to fish.
            parts.append(f"-{'s' if len(name) == 2 else 'o'} {name[1:]}")
    if option.value is not None:
        words = _quoted(" ".join(option.value.words), fish=True)
        folders = "-x -a '(__fish_complete_directories)'"
        value = {Kind.FILE: "-r -F", Kind.FOLDER: folders, Kind.WORD: f"-x -a {words}"}
        parts.append(value.get(option.value.kind, "-x"))
    return f"{' '.join(parts)} -d {_quoted(option.help, fish=True)}"


def _quoted(text: str, *, fish: bool = False) -> str:
    """`text` in single quotes. Within them fish reads a backslash as such, bash and zsh read nothing."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'") if fish else text.replace("'", "'\\''")
    return f"'{escaped}'"


_SCRIPTS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
