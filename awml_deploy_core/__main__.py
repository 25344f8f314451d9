"""`python -m awml_deploy_core` is `awml-deploy`."""

from awml_deploy_core.cli import main

main()
