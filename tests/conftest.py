"""How many examples the properties try: 200 each, or over 20,000 in all with the profile `ci`.

That one is taken where the environment has `CI`, or HYPOTHESIS_PROFILE says so.
"""

import os

from hypothesis import settings

settings.register_profile("default", max_examples=200, deadline=None)
settings.register_profile("ci", max_examples=900, deadline=None)
usual = "ci" if "CI" in os.environ else "default"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", usual))

pytest_plugins = ["testcluster.fixtures", "contract.options"]
