"""A ClearML-compatible API and file server for development and tests: one process, one SQLite file.

It implements the calls that our flows and the unchanged SDK need, as observed on clearml-server 2.3.0 from outside. A
call that ClearML has and this server has not is answered with 501 and its name.
"""
