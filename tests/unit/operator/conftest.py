"""How many examples the properties try: 200 each, or 20,000 in all with HYPOTHESIS_PROFILE=ci."""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=200, deadline=None)
settings.register_profile("ci", max_examples=1_400, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
