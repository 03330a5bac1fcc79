"""Programs that start others must end them, whatever they are ended by themselves."""

import signal


def end_as_by_ctrl_c() -> None:
    """From now on SIGTERM does what Ctrl-C does: it raises KeyboardInterrupt, so that everything is cleaned up.

    A shell that starts something in the background has SIGINT ignored there; that ends, too.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
