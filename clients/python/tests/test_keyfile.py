import os
import subprocess

import pytest

from dekeys import KeyFile, KeyFileError

LINE = "dekeys-key-1 ed25519 nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
PUBLIC = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_the_file_of_dekeys_key_new_is_read(tmp_path):
    path = tmp_path / "agent.key"
    made = subprocess.run([os.environ["DEKEYS_BIN"], "key", "new", path], check=True, capture_output=True, text=True)
    assert KeyFile.load(path).public == made.stdout.strip()


def test_comments_and_line_ends_are_no_matter():
    assert KeyFile.parse(f"\r\n# ada\r\n\r\n  {LINE}  \r\n# second\r\n").public == PUBLIC


def test_a_pkcs8_file_is_read():
    pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"
    assert KeyFile.parse(pem).public == PUBLIC


@pytest.mark.parametrize("text", ["", "# only", f"{LINE}\n{LINE}", LINE.replace("key-1", "key-2"), f"{LINE}A",
                                  LINE[:-1] + "B", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
def test_other_files_are_refused_without_quoting_them(text):
    with pytest.raises(KeyFileError) as caught:
        KeyFile.parse(text)
    assert "nWGxne" not in str(caught.value)


def test_a_file_that_others_can_read_is_warned_about(tmp_path):
    path = tmp_path / "loose.key"
    path.write_text(LINE)
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod 600"):
        KeyFile.load(path)
