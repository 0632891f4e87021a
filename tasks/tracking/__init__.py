"""MLflow: one run per training, evaluation, audit and study, found again by the artifact that it describes.

A resumed training goes on in its run, and a database that was lost is filled again from the artifacts.
"""
