# SPDX-License-Identifier: MIT
"""Runs inside gdb: stops tests/c/handover.c at one point after the other, each time in a new run,
until the other side has done its part or sleeps.

    RINGBELL_HANDOVER=JSON gdb -batch -x tests/stop_in_gdb.py --args handover ...

tests/test_debugger.py says what the JSON is made of.
"""

import json
import os
import re
import time
from functools import cache
from pathlib import Path

import gdb

HANDOVER = json.loads(os.environ["RINGBELL_HANDOVER"])
BARRIER = re.compile(r"\block\b|\bmfence\b|\bxchg\b")


@cache
def lines_of(file):
    return Path(file).read_text().splitlines()


def text_at(symtab, line):
    return lines_of(symtab.fullname())[line - 1] if symtab and line else ""


def origins(address):
    """Give the functions, inlined ones too, and the source lines that an instruction is from."""
    functions, texts = [], []
    where = gdb.find_pc_line(address)
    texts.append(text_at(where.symtab, where.line))
    block = gdb.block_for_pc(address)
    while block and not block.is_static:
        if block.function:
            functions.append(block.function.name)
            # Of an inlined function, this is the line that calls it.
            texts.append(text_at(block.function.symtab, block.function.line))
        block = block.superblock
    return functions, texts


def instructions_of(file):
    """Give all instructions of the functions of one source file, each function's in order."""
    architecture = gdb.selected_frame().architecture()
    symtab = gdb.lookup_global_symbol(file).symtab
    found = []
    for block in (symtab.global_block(), symtab.static_block()):
        for symbol in block:
            if symbol.is_function and not symbol.needs_frame:
                body = gdb.block_for_pc(int(symbol.value().address))
                if body and body.function and body.function.name == symbol.name:
                    found.append(architecture.disassemble(body.start, body.end - 1))
    return found


def address_of(step):
    """Give the first or the last instruction of a source line in a function, inlined or not."""
    for instructions in instructions_of(step["file_of"]):
        found = []
        for instruction in instructions:
            functions, texts = origins(instruction["addr"])
            if step["function"] in functions and any(step["text"] in text for text in texts):
                found.append(instruction)
        if "fence" in step["text"]:
            found = [instruction for instruction in found if BARRIER.search(instruction["asm"])]
        if found:
            return found[0 if step["at"] == "before" else -1]["addr"]
    raise gdb.GdbError(f"no instruction for {step['text']!r} in {step['function']}")


def value(expression):
    return int(gdb.parse_and_eval(expression))


def settled(pid):
    """Whether the other side has ended, or sleeps inside the wait under test."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    # The counter moves just before the system call, so this sleep is that system call.
    return state == "Z" or (state == "S" and value(HANDOVER["sleeps"]) > 0)


def stop_at(step):
    """Run the program with one stop; say what happened."""
    # From here on there are two processes.
    gdb.execute(f"tbreak {HANDOVER['start']}")
    gdb.execute("run")
    before = value(HANDOVER["word"])
    gdb.execute(f"tbreak *{address_of(step)}")
    gdb.execute("continue")
    if step["at"] == "after":
        # One step of the CPU. After a jump the next instruction is not the one behind it.
        gdb.execute("stepi")
    moved = value(HANDOVER["word"]) != before
    pid = value("child")
    with open(HANDOVER["gate"], "w"):
        pass
    while not settled(pid):
        time.sleep(0.001)
    asleep = value(HANDOVER["sleeps"]) > 0
    for command in step["commands"]:
        gdb.execute(command)
    gdb.execute("continue")
    return {"moved": moved, "asleep": asleep, "status": value("$_exitcode")}


def main():
    for setting in ("confirm", "pagination", "disable-randomization", "debuginfod enabled"):
        gdb.execute(f"set {setting} off")
    done = []
    for step in HANDOVER["steps"]:
        print(f"---- {step['at']} {step['text']} ----", flush=True)
        done.append(stop_at(step))
        Path(HANDOVER["result"]).write_text(json.dumps(done))


main()
