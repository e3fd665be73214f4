{{/* Exactly what the operator does, each verb for a reason. */}}
{{- define "rlhf-operator.rules" -}}
# Watched; patched to hold and let go by the finalizer; deleted when their time to live is over.
- apiGroups: [rlhf.dev]
  resources: [rlhfruns]
  verbs: [list, watch, patch, delete]
- apiGroups: [rlhf.dev]
  resources: [rlhfruns/status]
  verbs: [update]
# One per attempt; read when one of its name exists already, and before its ConfigMap is made anew.
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs]
  verbs: [get, list, watch, create, delete]
# Read only: the training operator makes them.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# One per attempt; later attempts read an earlier one's hyper-parameters. Deleted, to be made anew,
# when the run was edited while the attempt's job was refused.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, delete]
# The workspace of a run that names none; read when one of its name exists already.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
# Told about runs; listed for a job that gets no pods, to say why.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end -}}
