output "credentials" {
  description = "The command that lets kubectl in."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.this.name} --region ${var.region} --dns-endpoint"
}

output "root" {
  description = "The lake's root, for PHENOPIPE_ROOT."
  value       = "gs://${google_storage_bucket.lake.name}"
}

output "registry" {
  description = "Where images are pushed to."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "redis" {
  description = "Redis's address, for the secret prefect-redis."
  value       = "${google_redis_instance.prefect.host}:${google_redis_instance.prefect.port}"
}
