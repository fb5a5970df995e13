"""What a test may need of the processor that it runs on."""

import pytest

from app.system.processor import multiplies_int8_exactly

needs_int8_dot_products = pytest.mark.skipif(
    not multiplies_int8_exactly(),
    reason="this processor adds int8 products up in 16 bits, which saturate: int8 is less exact here",
)
