"""The Kubernetes objects that are built, field by field: the closed subset that builders use, so that a wrong key is a type error.

A field that is not here is not built. Adding one to a pod means teaching `k2_local.pods` the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypedDict


class ObjectMeta(TypedDict):
    """Metadata of an object."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: NotRequired[dict[str, str]]


class TemplateMeta(TypedDict):
    """Metadata of what an object makes: it names and places that itself."""

    labels: dict[str, str]
    annotations: NotRequired[dict[str, str]]


class LabelSelector(TypedDict):
    """Which pods are meant."""

    matchLabels: dict[str, str]


class NamedRef(TypedDict):
    """Another object of the same namespace."""

    name: str


# --- pods -------------------------------------------------------------------------------------------------------------


class FieldRef(TypedDict):
    """A field of the pod itself."""

    fieldPath: str


class EnvVarSource(TypedDict):
    """Where a variable's value comes from. Secrets are files: see `environment`."""

    fieldRef: NotRequired[FieldRef]


class EnvVar(TypedDict):
    """A variable, by its value or by where that comes from."""

    name: str
    value: NotRequired[str]
    valueFrom: NotRequired[EnvVarSource]


class EmptyDir(TypedDict):
    """A folder that ends with its pod."""


class SecretSource(TypedDict):
    """A Secret as files."""

    secretName: str


class ClaimSource(TypedDict):
    """A persistent volume by its claim."""

    claimName: str


class PodVolume(TypedDict):
    """A volume of a pod, with exactly one source."""

    name: str
    configMap: NotRequired[NamedRef]
    emptyDir: NotRequired[EmptyDir]
    persistentVolumeClaim: NotRequired[ClaimSource]
    secret: NotRequired[SecretSource]


Mount = tuple[PodVolume, str]
"""A volume with the path that it is mounted at, read-only."""


class VolumeMount(TypedDict):
    """Where a container sees a volume."""

    name: str
    mountPath: str
    readOnly: NotRequired[bool]


class ContainerPort(TypedDict):
    """A port that a container serves."""

    name: str
    containerPort: int


class HttpGet(TypedDict):
    """A request whose answer tells how a container is; the port by its name."""

    path: str
    port: str


class HttpProbe(TypedDict):
    """When and how often a container is asked."""

    httpGet: HttpGet
    initialDelaySeconds: NotRequired[int]
    periodSeconds: int
    timeoutSeconds: int
    failureThreshold: int


class Capabilities(TypedDict):
    """What a process may do beyond a user's rights."""

    drop: list[str]


class ContainerSecurity(TypedDict):
    """Limits of a container."""

    allowPrivilegeEscalation: bool
    readOnlyRootFilesystem: bool
    capabilities: Capabilities


class SeccompProfile(TypedDict):
    """Which system calls are let through."""

    type: Literal["RuntimeDefault"]


class PodSecurity(TypedDict):
    """Whom a pod runs as."""

    runAsNonRoot: bool
    runAsUser: int
    runAsGroup: int
    fsGroup: int
    seccompProfile: SeccompProfile


class Container(TypedDict):
    """The container of a pod; `resources` are requests and limits."""

    name: str
    image: str
    imagePullPolicy: str
    command: list[str]
    args: list[str]
    env: list[EnvVar]
    ports: list[ContainerPort]
    volumeMounts: list[VolumeMount]
    resources: Mapping[str, Mapping[str, str]]
    securityContext: ContainerSecurity
    readinessProbe: NotRequired[HttpProbe]
    startupProbe: NotRequired[HttpProbe]
    livenessProbe: NotRequired[HttpProbe]
    terminationMessagePolicy: Literal["FallbackToLogsOnError"]


class PodSpec(TypedDict):
    """What a pod is."""

    restartPolicy: RestartPolicy
    terminationGracePeriodSeconds: int
    automountServiceAccountToken: bool
    enableServiceLinks: bool
    securityContext: PodSecurity
    containers: list[Container]
    volumes: list[PodVolume]


RestartPolicy = Literal["Always", "OnFailure", "Never"]


class PodTemplate(TypedDict):
    """The `template` of a workload."""

    metadata: TemplateMeta
    spec: PodSpec


# --- workloads --------------------------------------------------------------------------------------------------------

Rolling = Literal["RollingUpdate", "Recreate"]


class RollingUpdate(TypedDict):
    """How many pods may be missing, and how many there may be beyond those that are wanted."""

    maxUnavailable: int
    maxSurge: int


class DeploymentStrategy(TypedDict):
    """How old pods make room for new ones."""

    type: Rolling
    rollingUpdate: NotRequired[RollingUpdate]


class Counted(TypedDict):
    """How many pods there are, where an autoscaler does not say."""

    replicas: NotRequired[int]


class DeploymentSpec(Counted):
    """What a Deployment keeps running."""

    selector: LabelSelector
    strategy: DeploymentStrategy
    progressDeadlineSeconds: int
    template: PodTemplate


class Deployment(TypedDict):
    """Pods that run for ever."""

    apiVersion: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: ObjectMeta
    spec: DeploymentSpec


class JobSpec(TypedDict):
    """What a Job runs to its end."""

    backoffLimit: int
    suspend: bool
    template: PodTemplate


class Job(TypedDict):
    """A pod that ends."""

    apiVersion: Literal["batch/v1"]
    kind: Literal["Job"]
    metadata: ObjectMeta
    spec: JobSpec


class ScheduledJobSpec(TypedDict):
    """What each Job of a CronJob runs."""

    backoffLimit: int
    activeDeadlineSeconds: int
    template: PodTemplate


class JobTemplate(TypedDict):
    """The Jobs that a CronJob makes."""

    metadata: TemplateMeta
    spec: ScheduledJobSpec


class CronJobSpec(TypedDict):
    """When a CronJob makes a Job."""

    schedule: str
    timeZone: str
    suspend: bool
    concurrencyPolicy: Literal["Forbid"]
    startingDeadlineSeconds: int
    successfulJobsHistoryLimit: int
    failedJobsHistoryLimit: int
    jobTemplate: JobTemplate


class CronJob(TypedDict):
    """Jobs by a schedule."""

    apiVersion: Literal["batch/v1"]
    kind: Literal["CronJob"]
    metadata: ObjectMeta
    spec: CronJobSpec


# --- beside workloads -------------------------------------------------------------------------------------------------


class ConfigMap(TypedDict):
    """Files for a pod."""

    apiVersion: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: ObjectMeta
    data: dict[str, str]


class ServicePort(TypedDict):
    """A port of a Service and the pods' port behind it, by its name."""

    name: str
    port: int
    targetPort: str
    protocol: Literal["TCP"]


class ServiceSpec(TypedDict):
    """Which pods a headless Service names."""

    clusterIP: Literal["None"]
    publishNotReadyAddresses: bool
    selector: dict[str, str]
    ports: list[ServicePort]


class HeadlessService(TypedDict):
    """A name for pods."""

    apiVersion: Literal["v1"]
    kind: Literal["Service"]
    metadata: ObjectMeta
    spec: ServiceSpec


class BudgetSpec(TypedDict):
    """How many pods may be away."""

    maxUnavailable: int
    selector: LabelSelector
    unhealthyPodEvictionPolicy: Literal["AlwaysAllow"]


class PodDisruptionBudget(TypedDict):
    """What a drain of a node has to leave."""

    apiVersion: Literal["policy/v1"]
    kind: Literal["PodDisruptionBudget"]
    metadata: ObjectMeta
    spec: BudgetSpec


# --- autoscaling ------------------------------------------------------------------------------------------------------


class ScaleTarget(TypedDict):
    """What is scaled."""

    apiVersion: Literal["apps/v1"]
    kind: Literal["Deployment"]
    name: str


class ScaleDown(TypedDict):
    """How long it has to be calm before a pod goes."""

    stabilizationWindowSeconds: int


class ScalingBehavior(TypedDict):
    """How fast the number of pods changes."""

    scaleDown: ScaleDown


class MetricTarget(TypedDict):
    """The value of a metric that one pod should have."""

    type: Literal["AverageValue"]
    averageValue: str


class PodsMetric(TypedDict):
    """A metric of the pods themselves."""

    metric: NamedRef
    target: MetricTarget


class ScalingMetric(TypedDict):
    """What an autoscaler looks at."""

    type: Literal["Pods"]
    pods: PodsMetric


class AutoscalerSpec(TypedDict):
    """What is scaled, between which bounds, by what."""

    scaleTargetRef: ScaleTarget
    minReplicas: int
    maxReplicas: int
    metrics: list[ScalingMetric]
    behavior: ScalingBehavior


class HorizontalPodAutoscaler(TypedDict):
    """Kubernetes' own autoscaler."""

    apiVersion: Literal["autoscaling/v2"]
    kind: Literal["HorizontalPodAutoscaler"]
    metadata: ObjectMeta
    spec: AutoscalerSpec


class LagQuestion(TypedDict):
    """What KEDA asks Prometheus."""

    serverAddress: str
    query: str
    threshold: str
    ignoreNullValues: Literal["false"]


class AuthenticationRef(TypedDict):
    """What KEDA gets in with."""

    kind: Literal["ClusterTriggerAuthentication"]
    name: str


class PrometheusTrigger(TypedDict):
    """A figure of Prometheus."""

    type: Literal["prometheus"]
    metadata: LagQuestion
    authenticationRef: NotRequired[AuthenticationRef]


class AutoscalerConfig(TypedDict):
    """What KEDA hands on to the autoscaler that it makes."""

    behavior: ScalingBehavior


class ScaledObjectAdvanced(TypedDict):
    """Settings of that autoscaler."""

    horizontalPodAutoscalerConfig: AutoscalerConfig


class ScaledObjectSpec(TypedDict):
    """What is scaled, between which bounds, by what."""

    scaleTargetRef: ScaleTarget
    minReplicaCount: int
    maxReplicaCount: int
    advanced: ScaledObjectAdvanced
    triggers: list[PrometheusTrigger]


class ScaledObject(TypedDict):
    """KEDA's autoscaler."""

    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: ObjectMeta
    spec: ScaledObjectSpec


# --- Kafka ------------------------------------------------------------------------------------------------------------

TopicConfig = TypedDict("TopicConfig", {"retention.ms": NotRequired[int]})
"""Kafka's own settings of a topic."""


class KafkaTopicSpec(TypedDict):
    """What a topic is to be."""

    topicName: str
    partitions: int
    replicas: int
    config: TopicConfig


class KafkaTopic(TypedDict):
    """A topic in Strimzi's hands."""

    apiVersion: Literal["kafka.strimzi.io/v1"]
    kind: Literal["KafkaTopic"]
    metadata: ObjectMeta
    spec: KafkaTopicSpec


Autoscaler = HorizontalPodAutoscaler | ScaledObject
Manifest = ConfigMap | CronJob | Deployment | Job | PodDisruptionBudget | HeadlessService | Autoscaler
"""What is built for a feed or a table; a KafkaTopic is apart, for it lives in Kafka's namespace."""
