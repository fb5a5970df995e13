"""What a test may need of the processor that it runs on."""

import pytest

from app.system.processor import has_int8_dot_products

needs_int8_dot_products = pytest.mark.skipif(
    not has_int8_dot_products(),
    reason="this processor adds int8 products up in 16 bits, which saturate: int8 is less exact here",
)
