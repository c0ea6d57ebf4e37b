"""Write the custom resource definition, or with `--reference` its reference page, to stdout."""

import argparse
import sys

from computepool_operator.crd.manifest import custom_resource_definition_yaml
from computepool_operator.crd.reference import reference_page


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m computepool_operator.crd", description=__doc__)
    parser.add_argument("--reference", action="store_true", help="write the page in Markdown")
    arguments = parser.parse_args()
    sys.stdout.write(reference_page() if arguments.reference else custom_resource_definition_yaml())


if __name__ == "__main__":
    main()
