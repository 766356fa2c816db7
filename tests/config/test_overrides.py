"""All settings are listed with their defaults and meanings."""

import json

from dmzcli.config import list_all_settings, presets


def test_all_settings_are_listed():
    facts, text = list_all_settings()
    assert set(facts["presets"]) == set(presets())
    for key, setting in facts["settings"].items():
        assert f"{key} = " in text
        assert setting["help"] or key.startswith("training.")
    json.dumps(facts, allow_nan=False)
