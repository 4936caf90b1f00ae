"""The messages as they travel. Generated from protos/, under a package of their own; none of this
package's names.
"""
