"""What commands say when they fail."""

import pytest

from define.__main__ import main


def failure(capsys, *command):
    """What a command says when it fails: one line, exit code 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main([str(part) for part in command])
    message = exit.value.code
    assert isinstance(message, str)  # Python prints it and exits with 1
    assert message.startswith("define: ") and "\n" not in message
    assert "Traceback" not in capsys.readouterr().err
    return message


def usage(capsys, *command):
    """What the parser says of arguments that it cannot read: exit code 2, as usual."""
    with pytest.raises(SystemExit) as exit:
        main([str(part) for part in command])
    assert exit.value.code == 2
    return capsys.readouterr().err
