#!/usr/bin/python3
"""Makes the manual pages and the completions for bash and zsh of a program, of what it tells
about its own options:  command-files.py PROGRAM FOLDER

FOLDER becomes like /usr/share: man/man1, bash-completion/completions, zsh/site-functions.
"""

import json
import pathlib
import re
import subprocess
import sys
import textwrap

NUMBERS = {"UINT", "INT", "FLOAT", "number", "int", "uint", "ulong", "double"}
STATUS = """\
.SH EXIT STATUS
0: success; 1: bad input, or what cannot be, and the message says what to change; 2: wrong usage;
3: a run that could not finish.
"""


def described(*command):
    return json.loads(subprocess.run([*command, "--describe-options"], check=True,
                                     stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout)


def value_of(option):
    """What stands for the option's value, and its choices, if it has some."""
    kind, _, check = option["value"].partition(":")
    choices = re.fullmatch(r"\{(.*)\}", check)
    return kind, (choices[1].split(",") if choices else []), "" if choices else check


# ------------------------------------------------------------------ manual pages --


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def wrapped(command):
    """As a page is wide; what is pasted from it still runs."""
    together = re.sub(r" (--?\S+) (?!-)", " \\1\0", command)  # an option and its value
    lines = textwrap.wrap(together, 66, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ")


def man_page(about):
    name = about["name"]
    positionals = [option for option in about["options"] if option["positional"]]
    words = ["[OPTIONS]"] + [
        (option["positional"] if option["required"] else f"[{option['positional']}]")
        + ("..." if option["repeats"] else "") for option in positionals]
    if about["commands"]:
        words.append("COMMAND ...")
    page = [f".TH {roff(name.replace(' ', '-').upper())} 1 \"\" Tombolo Tombolo",
            ".SH NAME", f"{roff(name.replace(' ', '-'))} \\- {roff(about['description'])}",
            ".SH SYNOPSIS", f".B {roff(name)}", roff(" ".join(words)),
            ".SH EXAMPLES", ".nf", *(roff(wrapped(example)) for example in about["examples"]), ".fi"]
    if about["commands"]:
        page.append(".SH COMMANDS")
        for command in about["commands"]:
            page += [".TP", f".B {roff(command['name'])}", roff(command["description"]),
                     f"(\\fB{roff(name)}\\-{roff(command['name'])}\\fR(1))"]
    page.append(".SH OPTIONS")
    for option in [*positionals, *(one for one in about["options"] if one["names"])]:
        kind, choices, check = value_of(option)
        names = ", ".join(f"\\fB{roff(one)}\\fR" for one in option["names"])
        page += [".TP", names or f"\\fI{roff(option['positional'])}\\fR"]
        if kind and option["names"]:
            page[-1] += f" \\fI{roff('|'.join(choices) or kind)}\\fR"
        notes = [check, option["default"] and "default: " + option["default"],
                 option["required"] and option["names"] and "required",
                 option["excludes"] and "not with " + ", ".join(option["excludes"])]
        notes = "; ".join(note for note in notes if note)
        help_text = roff(option["help"]).replace("\n", "\n.br\n")
        page.append((help_text + (f"\n({roff(notes)})" if notes else "")) or "\\&")
    page.append(STATUS.rstrip())
    return "\n".join(page) + "\n"


# --------------------------------------------------------------------------- bash --


def bash_cases(about):
    """Of one command: what may follow an option, then options or files."""
    lines = ["case $prev in"]
    for option in about["options"]:
        kind, choices, _ = value_of(option)
        if not kind or not option["names"]:
            continue
        reply = (f'_tombolo_reply -W {quoted(" ".join(choices))}' if choices
                 else ":" if kind in NUMBERS else "_tombolo_reply -f")
        lines.append(f'  {"|".join(option["names"])}) {reply}; return ;;')
    names = " ".join(name for option in about["options"] for name in option["names"])
    lines += ["esac", "case $cur in", f"  -*) _tombolo_reply -W {quoted(names)} ;;",
              "  *) _tombolo_reply -f ;;", "esac"]
    return lines


def bash_completion(about, commands):
    name = about["name"]
    function = "_" + name.replace("-", "_")
    lines = ["# bash completion of " + name + ", made by command-files.py",
             '_tombolo_reply() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }',
             function + "() {",
             '  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}',
             "  COMPREPLY=()",
             "  # --option=value comes as three words",
             '  if [[ $cur == "=" ]]; then cur=; elif [[ $prev == "=" ]]; then '
             'prev=${COMP_WORDS[COMP_CWORD-2]}; fi']
    if commands:
        words = " ".join([*commands, *(name for option in about["options"]
                                       for name in option["names"])])
        lines += ["  if ((COMP_CWORD == 1)); then", f"    _tombolo_reply -W {quoted(words)}",
                  "    return", "  fi", "  case ${COMP_WORDS[1]} in"]
        for command, told in commands.items():
            lines.append(f"  {command})")
            lines += ["    " + line for line in bash_cases(told)]
            lines.append("    ;;")
        lines.append("  esac")
    else:
        lines += ["  " + line for line in bash_cases(about)]
    return "\n".join([*lines, "}", f"complete -o filenames -F {function} {name}", ""])


# ---------------------------------------------------------------------------- zsh --


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_text(text):
    """In brackets, or between colons, of an argument of _arguments."""
    return re.sub(r"([\\\[\]:])", r"\\\1", " ".join(text.split()))


def zsh_arguments(about):
    specs = []
    for option in about["options"]:
        kind, choices, _ = value_of(option)
        action = (f"({' '.join(choices)})" if choices else " " if kind in NUMBERS else "_files")
        if option["positional"]:
            specs.append(f"{'*' if option['repeats'] else ''}:{zsh_text(option['positional'])}:_files")
        others = "" if option["repeats"] else f"({' '.join(option['names'] + option['excludes'])})"
        for name in option["names"]:
            spec = ("*" if option["repeats"] else others) + name
            if kind:
                spec += "=" if name.startswith("--") else "+"
            spec += f"[{zsh_text(option['help'])}]"
            if kind:
                spec += f":{zsh_text(kind)}:{action}"
            specs.append(spec)
    return ["_arguments \\", *(f"  {quoted(spec)} \\" for spec in specs[:-1]),
            f"  {quoted(specs[-1])}"] if specs else ["_files"]


def zsh_completion(about, commands):
    lines = ["#compdef " + about["name"], "# made by command-files.py"]
    if not commands:
        return "\n".join([*lines, *zsh_arguments(about), ""])
    lines += ["if (( CURRENT == 2 )); then", "  local -a commands=("]
    lines += ["    " + quoted(command["name"] + ":" + zsh_text(command["description"]))
              for command in about["commands"]]
    lines += ["  )", "  _describe command commands", "  return", "fi",
              "shift words", "(( CURRENT-- ))", "case $words[1] in"]
    for command, told in commands.items():
        lines.append(f"{command})")
        lines += ["  " + line for line in zsh_arguments(told)]
        lines.append("  ;;")
    return "\n".join([*lines, "esac", ""])


def main(program, folder):
    about = described(program)
    commands = {command["name"]: described(program, command["name"])
                for command in about["commands"]}
    name, folder = about["name"], pathlib.Path(folder)
    files = {f"bash-completion/completions/{name}": bash_completion(about, commands),
             f"zsh/site-functions/_{name}": zsh_completion(about, commands)}
    for told in (about, *commands.values()):
        files[f"man/man1/{told['name'].replace(' ', '-')}.1"] = man_page(told)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
