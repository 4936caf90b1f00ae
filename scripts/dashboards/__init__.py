"""The dashboards as code. `python -m scripts.dashboards` writes them."""
