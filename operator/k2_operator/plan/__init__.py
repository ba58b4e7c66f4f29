"""Resources and the platform's settings → frozen plans; every mistake of a user is found here.

Pure: knows nothing of Kubernetes objects; `build` and the executors take the plans and never see a raw spec.
"""
