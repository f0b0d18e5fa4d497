"""What the command line is: its commands, its exit codes, and what is wrong with arguments. Costs nothing to import."""

from __future__ import annotations

# Words by which people try to give a key. An argument is in the list of processes and in the shell's history.
_KEYS = ("key", "token", "secret", "password", "bearer", "auth", "credential")

COMMANDS = {
    "get": "read an account",
    "update": "replace an account in full: what is not given is cleared",
    "patch": "change single fields of an account and keep the others",
    "list": "read all accounts, or those that match a text",
    "plan": "compare a table with the accounts and say what would change; writes nothing",
    "apply": "write what a plan says, or a part of it; resumes where an earlier run stopped",
    "status": "show what a plan has done and what is left; needs no key",
    "revert": "restore the values from before a plan",
    "check": "find out how the service behaves, and what differs from what is expected; writes nothing by itself",
    "plans": "list the plans that were made without --save-as; needs no key",
    "quota": "show what is left of the quota that the programs on this machine share; sends nothing",
    "sandbox": "run a server on 127.0.0.1 that behaves as Reply.io does, to try all this without a key",
}
EXIT_CODES = {
    0: "done",
    1: "something failed",
    2: "usage: the arguments, the key or the input cannot be used; nothing was sent",
    3: "the outcome is unknown: an update was sent, and no answer tells whether it was applied",
    4: "the plan has changes (only `plan --exit-code`)",
    129: "ended by SIGHUP, as when the terminal closes",
    130: "interrupted by Ctrl-C",
    143: "ended by SIGTERM",
}
EPILOG = "The key comes from REPLY_API_KEY or --key-file, the address from REPLY_BASE_URL."


class UsageError(Exception):
    """The arguments cannot be used. The message never repeats one that might be a key."""


def refuse_keys(arguments: list[str]) -> None:
    """Refuses a key among the arguments, without repeating it.

    Raises:
        UsageError: When there is an option that looks like one for a key.
    """
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0].lower()
        if name.startswith("-") and name != "--key-file" and any(word in name for word in _KEYS):
            raise UsageError(
                "a key is never an argument, where every user of this machine can see it: set REPLY_API_KEY or give "
                "--key-file FILE. If the key was typed just now, it is in the shell's history too"
            )


def unknown_command(name: str) -> str:
    """What is wrong with the first argument, which is no command."""
    import difflib

    if name.startswith("-"):
        return f"the command comes first: replyio {'|'.join(COMMANDS)}; see replyio --help"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    return f"no such command; {f'did you mean {near[0]}?' if near else 'see replyio --help'}"


def overview() -> str:
    """The help of the command as a whole."""
    lines = ["usage: replyio COMMAND [OPTIONS]", "", "Safe updates of Reply.io contact accounts.", "", "commands:"]
    lines += [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    lines += ["", "exit codes:", *(f"  {code:<5}{text}" for code, text in EXIT_CODES.items())]
    lines += ["", f"{EPILOG} Data goes to stdout, everything else to stderr.", "replyio COMMAND --help says more."]
    return "\n".join(lines) + "\n"
