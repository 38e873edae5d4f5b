"""``tests/bench/expected_training.py`` on the double; a script, with the same options."""

from tests.fakecuda.double import install

install()

from tests.bench.expected_training import main  # noqa: E402  torch comes after the double

main()
