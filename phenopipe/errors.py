"""The one exception that means "your input is at fault", as opposed to ours or the machine's."""


class InputError(ValueError):
    """Bad input: says what was expected, what was found, where, and what to do.

    Never worth a retry. The command line prints its message without a traceback and exits with 2.

    Examples
    --------
    >>> raise InputError("expected a well name such as B03, found 'Z'")
    Traceback (most recent call last):
    ...
    phenopipe.errors.InputError: expected a well name such as B03, found 'Z'
    """
