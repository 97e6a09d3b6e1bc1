"""From a request's `dataset` to a file on this disk: uploads, web addresses, S3 and ClearML datasets.

Everything here runs in the worker's own process. The training child gets the file, no credentials and no address.
Pure: addresses, plan, manifest. Adapters: httpx2_fetch, obstore_fetch, clearml_datasets, cache, zip_entry. `fetching`
puts them together.
"""
