"""What was probably meant: misspelt options, options of other tools, words that are no command.

Imported where arguments are refused only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

# What to do in place of an option that another tool has: curl(1), wget(1), aria2c(1). Where two of them mean something
# else by one letter, it is what curl means.
_OF_DOWNLOADERS = {
    "use -d DIR": "-P --directory-prefix --output-dir",
    "use -o FILE": "--output --output-document --out",
    "use -i FILE": "--input-file",
    "use -q": "-s --silent -nv --no-verbose",
    "use --progress=bar": "-# --progress-bar --show-progress",
    "use --json": "--write-out",
    "use --retries N": "-t --tries --retry --max-tries",
    "use --timeout SECONDS": "-T --connect-timeout --read-timeout --dns-timeout",
    "use --limit-rate": "--max-download-limit --max-overall-download-limit",
    "use --speed-limit and --speed-time": "-Y -y --lowest-speed-limit",
    "use -j N": "-Z --parallel --parallel-max --max-concurrent-downloads",
    "use -x N": "--split --min-split-size --max-connection-per-server",
    "use -k": "--no-check-certificate --check-certificate",
    "use --cacert FILE": "--ca-certificate --ca-directory --capath",
    "use --cert FILE": "--certificate",
    "use --key FILE": "--private-key",
    "use --config FILE for defaults, -i FILE for a list": "-K",
    "use --dry-run, or getm.info in Python": "-I --head --spider",
    "use -nc": "--skip-existing",
    "use -N": "--timestamping -z --time-cond --conditional-get",
    "use getm verify": "-V --check-integrity",
    "use -H 'Authorization: ...', or --netrc": (
        "-u --user --password --basic --oauth2-bearer --http-user --http-password --http-passwd"
    ),
    "use -H 'User-Agent: ...'": "-A -U --user-agent",
    "use -H 'Referer: ...'": "-e --referer",
    "use --load-cookies FILE, or -H 'Cookie: ...'": "-b --cookie --cookies",
    "use --proxy URL": "--all-proxy --http-proxy --https-proxy --preproxy",
    "put it into the URL of --proxy (http://USER:PASSWORD@HOST:PORT)": "-U --proxy-user --proxy-password",
    "use --proxy socks5://HOST:PORT (socks5h: the proxy looks names up)": "--socks5 --socks5-hostname",
    "of SOCKS only version 5 is supported": "--socks4 --socks4a",
    "use --proxy ''": "--no-proxy",
    "redirects are followed in any case: leave it out": "-L --location --max-redirs --max-redirect",
    "an interrupted download resumes by itself: leave it out": "-C --continue --continue-at --always-resume",
    "an error status is a failure in any case: leave it out": "-f --fail --fail-with-body",
    "errors are printed in any case: leave it out": "-S --show-error",
    "folders are made where they are missing: leave it out": "--create-dirs",
    "the server or the URL names the file in any case: leave it out": (
        "-J --remote-name --remote-name-all --remote-header-name --content-disposition"
    ),
    "pauses between retries grow by themselves: leave it out": (
        "--retry-delay --retry-max-time --retry-connrefused --retry-all-errors --retry-wait --waitretry"
    ),
    "content is not decoded, as if it were not given: leave it out": "--compressed --compression",
    "use --no-glob": "-g --globoff",
    "HTTP/1.1 is used in any case: leave it out": "-0 --http1.0 --http1.1 --http2 --http3",
    "TLS 1.2 or later is used in any case: leave it out": "-1 --tlsv1.2 --tlsv1.3 --secure-protocol",
    "existing files are replaced unless -nc is given: leave it out": "--allow-overwrite --auto-file-renaming",
    "only GET requests are made": (
        "-X --request --method -F --form -G --get --data --data-raw --data-binary --data-urlencode --post-data"
        " --post-file --upload-file"
    ),
    "parts of a file are read in Python (getm.read)": "--range",
    "use -r, for which a folder's index page is read": "--mirror",
    "use --include PATTERN": "--accept",
    "use --exclude PATTERN": "--reject",
    "links of pages are not followed; -r reads index pages, and goes to no parent": (
        "--level -l -np --no-parent --page-requisites -nd -nH --cut-dirs"
    ),
    "cookies are not kept": "--cookie-jar --save-cookies --keep-session-cookies",
    "use timeout(1) for the whole": "--max-time",
    "use & of the shell": "--background --daemon",
    "response headers are in getm.info in Python": "-D --dump-header --server-response",
    "use -j 1, or --limit-rate": "-w --wait --random-wait",
}
# The same of md5sum(1), sha256sum(1) and others.
_AS_BYTES = {"files are read as bytes in any case: leave it out": "-b --binary -t --text"}
_OF_CHECKERS = {
    "files are checked in any case: leave it out": "-c --check",
    "use -q": "--status",
    "lines that cannot be understood are a failure in any case: leave it out": "--strict -w --warn",
    "the form of the lines is detected: leave it out": "-z --zero",
    **_AS_BYTES,
}
_OF_HASHERS = {"use getm verify": "-c --check", **_AS_BYTES}
OF_OTHER_TOOLS = {
    command: {name: advice for advice, names in table.items() for name in names.split()}
    for command, table in (("getm", _OF_DOWNLOADERS), ("getm verify", _OF_CHECKERS), ("getm hash", _OF_HASHERS))
}
# Of one letter, and a value may follow without a space.
_WITH_VALUE = frozenset(f"-{letter}" for letter in "AbCDeFKlPrTtUuwXYyz")


def unknown_options(arguments: Iterable[str], known: Collection[str], command: str) -> str:
    """What to say of arguments that begin with a hyphen and are no options of `command`; `known`: those there are."""
    theirs = OF_OTHER_TOOLS.get(command, {})
    names = list(dict.fromkeys(name for argument in arguments for name in _names(argument, known, theirs)))
    advice = {name: found for name in names if (found := theirs.get(name) or _misspelt(name, known))}
    if len(names) == 1 or not advice:
        return f"unknown option: {', '.join(names)}; {advice.get(names[0]) or f'see {command} --help'}"
    return f"unknown options: {', '.join(f'{name} ({advice[name]})' if name in advice else name for name in names)}"


def _names(argument: str, known: Collection[str], theirs: Collection[str]) -> Iterator[str]:
    """The options that an argument gives, without values: what stands behind a "=" or a name may be a secret."""
    name = argument.partition("=")[0]
    if name.startswith("--") or name in theirs or len(name) == 2:
        yield name
    elif name[:2] in _WITH_VALUE:
        yield name[:2]
    elif re.fullmatch("-[A-Za-z#]{2,6}", name):
        # "-fsSL"; or a value that nothing knows.
        letters = [f"-{letter}" for letter in name[1:] if f"-{letter}" not in known]
        yield from letters if all(letter in theirs for letter in letters) else [name]
    else:
        yield name[:2]


def _misspelt(name: str, known: Collection[str]) -> str | None:
    if not name.startswith("--"):
        return None
    # Abbreviations are not taken: they would break in a script with the next option.
    longer = [option for option in known if option.startswith(name)]
    close = longer if len(longer) == 1 else get_close_matches(name, known, 1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else None


def no_command(word: str, commands: Collection[str]) -> str | None:
    """What to say of an operand that looks like no URL; None where it does."""
    if Path(word).is_file():
        return f"{word} is a file: to download what it lists give -i {word}; getm verify and getm hash read files"
    if not re.fullmatch("[A-Za-z][A-Za-z-]*", word):
        return None
    close = get_close_matches(word.lower(), commands, 1)
    commands = ", ".join(sorted(commands))
    meant = f"did you mean getm {close[0]}?" if close else f"the commands are {commands} (see getm --help)"
    return f"{word} is neither a URL nor a command; {meant}"
