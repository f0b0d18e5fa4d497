"""The commands and exit codes of the command line, and errors in arguments. Fast to import."""

from __future__ import annotations

# Words in options with which people try to pass a key. Arguments are visible in the process list and in the shell's
# history.
_KEYS = ("key", "token", "secret", "password", "bearer", "auth", "credential")

COMMANDS = {
    "get": "read an account",
    "update": "replace an account in full, which clears each field that you leave out, except the owner",
    "patch": "change single fields of an account and keep the others",
    "list": "read all accounts, or those that match a text",
    "plan": "compare a table with the accounts and show what would change; sends no update",
    "apply": "send the updates of a plan, or part of them; resumes where an earlier run stopped",
    "status": "show a plan's progress and what is left; needs no key",
    "revert": "restore the values that a plan replaced",
    "check": "check how the service behaves and where it differs from what replyio expects; sends no update by default",
    "plans": "list the plans that were created without --save-as; needs no key",
    "quota": "show how many requests are left in the quota that programs on this machine share; sends no request",
    "sandbox": "run a server on 127.0.0.1 that follows Reply.io's API documentation, to try the commands without a key",
}
EXIT_CODES = {
    0: "done",
    1: "something failed",
    2: "usage error: invalid arguments or input, or a missing or malformed key; nothing was sent",
    3: "the outcome is unknown: an update was sent, but no answer confirmed it",
    4: "the plan has changes (only `plan --exit-code`)",
    129: "ended by SIGHUP, as when the terminal closes",
    130: "interrupted by Ctrl-C",
    143: "ended by SIGTERM",
}
EPILOG = "The key comes from REPLY_API_KEY or --key-file, and the base URL from REPLY_BASE_URL."


class UsageError(Exception):
    """The arguments cannot be used. The message never contains an argument that might be a key."""


def refuse_keys(arguments: list[str]) -> None:
    """Refuses a key among the arguments, without showing it.

    Raises:
        UsageError: If an option looks like one for a key.
    """
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0].lower()
        is_known = name == "--key-file" or argument == "--new-key"
        if name.startswith("-") and not is_known and any(word in name for word in _KEYS):
            raise UsageError(
                "replyio accepts no key as an argument, because every user of this machine can see arguments: set "
                "REPLY_API_KEY or pass --key-file FILE. If you typed the key just now, the shell history contains "
                "it too"
            )


def unknown_command(name: str) -> str:
    """Returns what is wrong with the first argument, which is not a command."""
    import difflib

    if name.startswith("-"):
        return f"put the command first: replyio {'|'.join(COMMANDS)}; see replyio --help"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f"no such command; {f'did you mean {near[0]}?' if near else 'see replyio --help'}"


def overview() -> str:
    """Returns the help of the whole command."""
    lines = ["usage: replyio COMMAND [OPTIONS]", "", "Safe updates of Reply.io contact accounts.", "", "commands:"]
    lines += [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    lines += ["", "exit codes:", *(f"  {code:<5}{text}" for code, text in EXIT_CODES.items())]
    lines += [
        "",
        f"{EPILOG} Data goes to stdout, everything else to stderr.",
        "For more help, run replyio COMMAND --help.",
    ]
    return "\n".join(lines) + "\n"
