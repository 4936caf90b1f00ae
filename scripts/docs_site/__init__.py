"""The site of the documentation: the build by mkdocs, and the checks of its result.

`hooks` runs inside mkdocs; `check` reads the site that was built, and opens it in a browser.
"""
