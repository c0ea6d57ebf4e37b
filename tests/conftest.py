pytest_plugins = ["testcluster.fixtures", "contract.options"]
