"""The gossip keys of an agent on disk."""

import json
import stat
from pathlib import Path

import pytest

from core.agent.build import gossip_pools
from core.agent.config_records import AgentConfig, ServerSection
from core.agent.keyring_file import KeyringFile
from gossip.keyring import encode_key

OLD, NEW = bytes(32), b"\x01" * 32


def test_keys_survive_and_are_for_the_owners_eyes_alone(tmp_path: Path) -> None:
    file = KeyringFile(str(tmp_path))
    assert file.load() == []
    assert file.save([NEW, OLD]) == ""
    assert KeyringFile(str(tmp_path)).load() == [NEW, OLD]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert json.loads(file.path.read_text()) == [encode_key(NEW), encode_key(OLD)]  # as Nomad's


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '["x"]', '["AAAA"]', "\x00", "null"])
def test_a_broken_keyring_is_refused_with_its_path_and_a_remedy(tmp_path: Path, text: str) -> None:
    file = KeyringFile(str(tmp_path))
    file.path.write_text(text)
    with pytest.raises(ValueError, match="holds no gossip keyring") as caught:
        file.load()
    assert str(file.path) in str(caught.value) and "remove it" in str(caught.value)


def test_a_folder_that_can_t_be_written_is_told_and_keeps_what_was(tmp_path: Path) -> None:
    file = KeyringFile(str(tmp_path / "gone"))
    assert "can't be written" in file.save([OLD])


def test_kept_keys_win_over_the_configuration() -> None:
    config = AgentConfig(server=ServerSection(enabled=True, encrypt=encode_key(OLD)))
    for kept, expected in (([], [OLD]), ([NEW, OLD], [NEW, OLD])):
        pools = gossip_pools(config, kept)
        keyring = pools["lan"].keyring
        assert keyring is not None and keyring.keys == expected
        assert pools["wan"].keyring is keyring
