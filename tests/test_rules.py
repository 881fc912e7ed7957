"""Settings that cannot be are refused by name, in whichever process the error is read."""

import pickle

import pytest

from dagster_active_learning import errors, rules


@pytest.mark.parametrize(
    ("check", "setting", "message"),
    [
        (lambda: rules.Rules(task="regression"), "task", "task is 'regression', expected one of 'classification', 'detection', 'segmentation'"),
        (lambda: rules.Rules(score_only="yes"), "score_only", "score_only is 'yes', expected one of 'binary', None"),
        (lambda: rules.check_flag("automation", "no"), "automation", "automation is 'no', expected true or false and no text; a template may compare, as in {{ env.NAME == 'yes' }}"),
        (lambda: rules.check_limit(0), "limit", "limit is 0, expected an integer of at least 1"),
        (lambda: rules.check_seed(2**63), "seed", "seed is 9223372036854775808, expected an integer of 64 bits"),
        (lambda: rules.check_share("min_coverage", 1.5), "min_coverage", "min_coverage is 1.5, expected a share from 0 to 1"),
        (lambda: rules.check_lock_timeout(-1), "lock_timeout_seconds", "lock_timeout_seconds is -1, expected a number of at least 0"),
    ],
)  # fmt: skip
def test_an_error_names_the_setting_and_is_a_value_error(check, setting, message):
    with pytest.raises(errors.SettingError) as caught:
        check()
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(error, ValueError)
        assert isinstance(error, errors.ActiveLearningError)
        assert error.setting == setting
        assert str(error) == message


def test_what_can_be_is_accepted():
    rules.Rules(task="segmentation", score_only="binary", images_without_predictions="exclude")
    rules.check_flag("automation", False)
    rules.check_limit(1)
    rules.check_seed(-(2**63))
    rules.check_share("min_coverage", 1)
    rules.check_lock_timeout(0.5)
