"""A verb in this process: what `eventstacks …` would say, without the start of an interpreter."""

import contextlib
import io
import signal
import sys
from types import SimpleNamespace
from unittest import mock

from eventstacks.__main__ import SIGNALS, main


def run(*arguments, data=b""):
    """Its exit code, stdout and stderr; signal handlers are as they were afterwards."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {one: signal.getsignal(one) for one in SIGNALS}
    try:
        with (
            mock.patch.object(sys, "argv", ["eventstacks", *arguments]),
            mock.patch.object(sys, "meta_path", sys.meta_path.copy()),  # help changes it
            mock.patch("eventstacks.__main__.atexit"),  # how an interrupted process ends
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                code = main()
            except SystemExit as ended:
                code = ended.code
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    return SimpleNamespace(returncode=code or 0, stdout=out.getvalue(), stderr=err.getvalue())
