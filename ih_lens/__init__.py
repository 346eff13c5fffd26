"""Whether, where and when a transformer grew induction heads, and what those heads do.

Public names are listed in `__init__.pyi` and are imported when first used, because TransformerLens alone
takes seconds to import.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
