# The lake's bucket, who may write to it, and the registry of our images.

resource "google_storage_bucket" "lake" {
  name                        = var.lake
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  # What is deleted by mistake can be had back for 30 days.
  soft_delete_policy {
    retention_duration_seconds = 30 * 24 * 60 * 60
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Flow runs, by the Kubernetes service account that infra/kubernetes makes. No key is ever made.
resource "google_storage_bucket_iam_member" "runs" {
  bucket = google_storage_bucket.lake.name
  role   = "roles/storage.objectUser"
  member = join("/", [
    "principal://iam.googleapis.com/projects/${data.google_project.this.number}",
    "locations/global/workloadIdentityPools/${var.project}.svc.id.goog",
    "subject/ns/phenopipe/sa/phenopipe",
  ])
  depends_on = [google_container_cluster.this]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "phenopipe"
  location      = var.region
  format        = "DOCKER"

  docker_config {
    immutable_tags = true
  }

  depends_on = [google_project_service.used]
}
