//! From JSON schemas to [`Shapes`].

use super::{Definition, Field, Shape, Shapes};
use crate::config::AgentConfiguration;
use crate::kind::Kind;
use crate::support::support;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, LimitRange, Namespace, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The structure of every kind that a manifest may hold; compiled at first use.
pub(crate) fn for_objects() -> &'static Shapes {
    static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
        let mut schemas = Schemas::default();
        schemas.add::<Namespace>(Kind::Namespace);
        schemas.add::<ServiceAccount>(Kind::ServiceAccount);
        schemas.add::<PriorityClass>(Kind::PriorityClass);
        schemas.add::<RuntimeClass>(Kind::RuntimeClass);
        schemas.add::<StorageClass>(Kind::StorageClass);
        schemas.add::<IngressClass>(Kind::IngressClass);
        schemas.add::<ClusterRole>(Kind::ClusterRole);
        schemas.add::<ClusterRoleBinding>(Kind::ClusterRoleBinding);
        schemas.add::<Role>(Kind::Role);
        schemas.add::<RoleBinding>(Kind::RoleBinding);
        schemas.add::<LimitRange>(Kind::LimitRange);
        schemas.add::<ResourceQuota>(Kind::ResourceQuota);
        schemas.add::<ConfigMap>(Kind::ConfigMap);
        schemas.add::<Secret>(Kind::Secret);
        schemas.add::<PersistentVolume>(Kind::PersistentVolume);
        schemas.add::<PersistentVolumeClaim>(Kind::PersistentVolumeClaim);
        schemas.add::<Service>(Kind::Service);
        schemas.add::<Endpoints>(Kind::Endpoints);
        schemas.add::<EndpointSlice>(Kind::EndpointSlice);
        schemas.add::<NetworkPolicy>(Kind::NetworkPolicy);
        schemas.add::<DaemonSet>(Kind::DaemonSet);
        schemas.add::<Deployment>(Kind::Deployment);
        schemas.add::<ReplicaSet>(Kind::ReplicaSet);
        schemas.add::<ReplicationController>(Kind::ReplicationController);
        schemas.add::<StatefulSet>(Kind::StatefulSet);
        schemas.add::<CronJob>(Kind::CronJob);
        schemas.add::<Job>(Kind::Job);
        schemas.add::<Pod>(Kind::Pod);
        schemas.add::<HorizontalPodAutoscaler>(Kind::HorizontalPodAutoscaler);
        schemas.add::<PodDisruptionBudget>(Kind::PodDisruptionBudget);
        schemas.add::<Ingress>(Kind::Ingress);
        schemas.add::<APIService>(Kind::APIService);
        schemas.compile()
    });
    &SHAPES
}

/// The structure of the agent's own configuration.
pub(crate) fn for_configuration() -> &'static Shapes {
    static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
        let mut schemas = Schemas::default();
        schemas.add::<AgentConfiguration>(Kind::Node);
        schemas.compile()
    });
    &SHAPES
}

struct Schemas {
    generator: SchemaGenerator,
    roots: Vec<(Kind, Value)>,
}

impl Default for Schemas {
    fn default() -> Self {
        Self { generator: SchemaSettings::draft2020_12().into_generator(), roots: Vec::new() }
    }
}

impl Schemas {
    fn add<T: JsonSchema>(&mut self, kind: Kind) {
        let schema = self.generator.subschema_for::<T>();
        self.roots.push((kind, schema.to_value()));
    }

    fn compile(mut self) -> Shapes {
        let schemas = self.generator.take_definitions(true);
        let mut compiler = Compiler { schemas: &schemas, index: HashMap::new(), definitions: Vec::new() };
        let roots = self.roots.iter().map(|(kind, schema)| (*kind, compiler.shape(schema))).collect();
        Shapes { roots, definitions: compiler.definitions }
    }
}

struct Compiler<'s> {
    schemas: &'s Map<String, Value>,
    index: HashMap<&'s str, Shape>,
    definitions: Vec<Definition>,
}

impl<'s> Compiler<'s> {
    fn shape(&mut self, schema: &'s Value) -> Shape {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.reference(reference);
        }
        // `Option<T>` is `anyOf: [T, null]`, and a `$ref` with siblings may stand in `allOf`.
        for of in ["anyOf", "allOf"] {
            let schemas = schema.get(of).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            if let Some(first) =
                schemas.iter().find(|s| s.get("type").and_then(Value::as_str) != Some("null"))
            {
                return self.shape(first);
            }
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        match type_of(schema) {
            "string" if format == "byte" => Shape::Bytes,
            "string" if format == "date-time" => Shape::Time,
            "string" => Shape::String,
            "boolean" => Shape::Boolean,
            "integer" => bounds(format),
            "number" => Shape::Number,
            "array" => {
                Shape::List(Box::new(schema.get("items").map_or(Shape::Any, |items| self.shape(items))))
            }
            "object" => match (schema.get("properties"), schema.get("additionalProperties")) {
                (Some(_), _) => self.object("", schema),
                (None, Some(values)) if values.is_object() => Shape::Map(Box::new(self.shape(values))),
                _ => Shape::Any,
            },
            _ => Shape::Any,
        }
    }

    fn reference(&mut self, reference: &'s str) -> Shape {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        match name.rsplit('.').next().unwrap_or(name) {
            "Quantity" => return Shape::Quantity,
            "IntOrString" => return Shape::IntOrString,
            _ => {}
        }
        if let Some(shape) = self.index.get(name) {
            return shape.clone();
        }
        let Some(schema) = self.schemas.get(name) else { return Shape::Any };
        if schema.get("properties").is_some() { self.object(name, schema) } else { self.shape(schema) }
    }

    fn object(&mut self, full_name: &'s str, schema: &'s Value) -> Shape {
        let at = self.definitions.len();
        let name = full_name.rsplit('.').next().unwrap_or(full_name);
        self.definitions.push(Definition {
            #[cfg(test)]
            name: name.to_owned(),
            fields: Vec::new(),
        });
        if !full_name.is_empty() {
            self.index.insert(full_name, Shape::Object(at));
        }
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut fields: Vec<Field> = properties
            .into_iter()
            .flatten()
            .map(|(field, schema)| Field {
                name: field.clone(),
                shape: self.shape(schema),
                required: required.contains(&field.as_str()),
                support: support(name, field),
            })
            .collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.definitions[at].fields = fields;
        Shape::Object(at)
    }
}

/// `type: string`, or the first of `type: [string, null]`.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|n| *n != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn bounds(format: &str) -> Shape {
    match format {
        "int32" => Shape::Integer(i32::MIN.into(), i32::MAX.into()),
        "uint16" => Shape::Integer(0, u16::MAX.into()),
        "uint32" => Shape::Integer(0, u32::MAX.into()),
        "uint64" => Shape::Integer(0, u64::MAX.into()),
        _ => Shape::Integer(i64::MIN.into(), i64::MAX.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_support_table_names_a_field() {
        let shapes = for_objects();
        for (definition, field, _) in crate::support::rows() {
            let found = shapes.definitions.iter().any(|d| d.name == definition && d.field(field).is_some());
            assert!(found, "{definition}.{field} is no field");
        }
    }

    /// What pods ask their node by.
    const OF_PODS: [&str; 35] = [
        "Capabilities",
        "ConfigMapVolumeSource",
        "Container",
        "DownwardAPIVolumeFile",
        "DownwardAPIVolumeSource",
        "EmptyDirVolumeSource",
        "EnvFromSource",
        "EnvVarSource",
        "FileKeySelector",
        "GRPCAction",
        "HTTPGetAction",
        "HostPathVolumeSource",
        "ImageVolumeSource",
        "KeyToPath",
        "Lifecycle",
        "LifecycleHandler",
        "PodDNSConfig",
        "PodSecurityContext",
        "PodSpec",
        "Probe",
        "ProjectedVolumeSource",
        "ResourceFieldSelector",
        "ResourceRequirements",
        "RuntimeClass",
        "SeccompProfile",
        "SecretVolumeSource",
        "SecurityContext",
        "ServiceAccountTokenProjection",
        "SleepAction",
        "TCPSocketAction",
        "Volume",
        "VolumeMount",
        "VolumeProjection",
        "ExecAction",
        "ContainerResizePolicy",
    ];

    /// Fields that hold others, name the object itself, say where a row's field is, or only describe.
    const WITHOUT_A_ROW: [&str; 9] = [
        "apiVersion",
        "kind",
        "metadata",
        "mountPath",
        "nodeName",
        "ports",
        "securityContext",
        "serviceAccount",
        "sources",
    ];

    #[test]
    fn every_field_of_a_pod_with_an_effect_is_in_the_table_of_tests() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/development/fields.md");
        let table = std::fs::read_to_string(path).expect("the table");
        let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let words: std::collections::BTreeSet<&str> =
            cells.flat_map(|cell| cell.split(|c: char| !c.is_ascii_alphanumeric())).collect();
        let shapes = for_objects();
        let mut missing = Vec::new();
        for name in OF_PODS {
            let definition = shapes.definitions.iter().find(|one| one.name == name).expect(name);
            let full = definition.fields.iter().filter(|field| field.support == crate::schema::Support::Full);
            let known = |field: &str| words.contains(field) || WITHOUT_A_ROW.contains(&field);
            missing.extend(
                full.filter(|field| !known(&field.name)).map(|field| format!("{name}.{}", field.name)),
            );
        }
        assert!(missing.is_empty(), "no row of docs/development/fields.md is for {missing:#?}");
    }

    #[test]
    fn a_deployment_knows_its_template() {
        let shapes = for_objects();
        let Shape::Object(root) = shapes.root(Kind::Deployment) else { panic!("no object") };
        let spec = shapes.definition(*root).field("spec").unwrap();
        let Shape::Object(spec) = spec.shape else { panic!("no object") };
        assert!(shapes.definition(spec).field("selector").unwrap().required);
        let replicas = shapes.definition(spec).field("replicas").unwrap();
        assert_eq!(replicas.shape, Shape::Integer(i32::MIN.into(), i32::MAX.into()));
    }
}
