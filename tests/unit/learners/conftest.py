"""The checks are no test modules themselves: pytest is asked to show what their assertions compare."""

import pytest

pytest.register_assert_rewrite("checks")
